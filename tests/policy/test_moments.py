"""Dates and times as people write them become moments."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.errors import UsageError
from mpdispatch.policy.moments import moment_of_field, moment_us

BERLIN = ZoneInfo("Europe/Berlin")


def us(*when: int, zone: ZoneInfo = BERLIN) -> int:
    return round(datetime(*when, tzinfo=zone).timestamp()) * 1_000_000  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    "value",
    ["2026-11-01", "2026-11-01T00:00", " 2026-11-01 00:00:00 ", date(2026, 11, 1), "2026-10-31T23:00:00Z"],
)
def test_one_moment_in_several_writings(value: object) -> None:
    assert moment_us(value, "Europe/Berlin") == us(2026, 11, 1)


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.timezones()))
def test_an_aware_datetime_and_its_text_are_the_same_whatever_the_zone(moment: datetime) -> None:
    expected = (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert moment_us(moment, "Asia/Tokyo") == expected
    if moment.utcoffset() is not None and not moment.utcoffset().seconds % 60:  # type: ignore[union-attr]
        assert moment_us(moment.isoformat(), "Asia/Tokyo") == expected


def test_a_time_that_occurs_twice_is_the_first_and_one_that_does_not_exist_is_later() -> None:
    assert moment_us("2026-10-25T02:30", "Europe/Berlin") == moment_us("2026-10-25T00:30Z", "UTC")
    assert moment_us("2026-03-29T02:30", "Europe/Berlin") == moment_us("2026-03-29T01:30Z", "UTC")


@pytest.mark.parametrize("value", ["tomorrow", "2026-13-01", "", 5, None, True, "1.11.2026"])
def test_what_is_no_moment_is_refused_by_its_field(value: object) -> None:
    with pytest.raises(UsageError, match=r"^from: must be a date or a time"):
        moment_of_field("from", value, "UTC")


def test_the_ends_of_time() -> None:
    with pytest.raises(UsageError, match="between the years 1 and 9999"):
        moment_us("9999-12-31T23:30", "America/New_York")

"""Which entries are late, and since when."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.policy.cron.late import last_success_us, late_at_us, late_since_us
from mpdispatch.policy.cron.schedule import Every
from tests.policy.cron_entries import COMPLETED, FAILED, NOON, RUNNING, entry_of, open_firing
from tests.policy.cron_times import DAY, HOUR, MINUTE, SECOND

# schedule, fields of the spec, fields of the entry, how long after noon it is late; None: never
RULES = [
    ("0 * * * *", {}, {}, 2 * HOUR),
    ("0 * * * *", {"jitter_us": MINUTE}, {}, 2 * HOUR + MINUTE),
    ("0 * * * *", {}, {"last_success_us": NOON + HOUR + 5}, 3 * HOUR),
    ("0 * * * *", {}, {"last_success_us": NOON - HOUR}, 2 * HOUR),
    ("0 * * * *", {"starts_at_us": NOON + 5 * HOUR}, {}, 6 * HOUR),
    ("0 * * * *", {"ends_at_us": NOON + 90 * MINUTE}, {}, None),
    ("0 * * * *", {}, {"is_enabled": False}, None),
    ("0 * * * *", {}, {"is_orphan": True}, None),
    ("0 * * * *", {"late_after_us": 10 * MINUTE}, {}, 10 * MINUTE),
    ("0 * * * *", {"late_after_us": MINUTE}, {"last_success_us": NOON + HOUR}, HOUR + MINUTE),
    ("0 * * * *", {"late_after_us": MINUTE, "starts_at_us": NOON + HOUR}, {}, HOUR + MINUTE - 1),
    ("* * * * * *", {}, {}, 6 * SECOND),
    ("@every 40s", {}, {}, 80 * SECOND),
    ("@once 2026-11-30T12:30", {}, {}, 90 * MINUTE),
    ("@once 2026-11-30T12:30", {"late_after_us": MINUTE}, {}, 31 * MINUTE),
    ("@once 2026-11-30T12:30", {}, {"last_success_us": NOON + 31 * MINUTE}, None),
    ("@once 2026-11-30T11:30", {}, {}, None),
    ("@startup", {}, {}, None),
    ("@reboot", {"late_after_us": DAY}, {}, DAY),
]


@pytest.mark.parametrize(("schedule", "spec", "fields", "after"), RULES)
def test_entry_is_late_from_a_moment_on(schedule, spec, fields, after):
    entry = entry_of(schedule, entry=fields, **spec)
    if after is None:
        assert late_at_us(entry) is None
        assert late_since_us(entry, NOON + 1000 * DAY) is None
    else:
        assert late_at_us(entry) == NOON + after
        assert late_since_us(entry, NOON + after - 1) is None
        assert (
            late_since_us(entry, NOON + after) == late_since_us(entry, NOON + after + 50 * DAY) == NOON + after
        )


def test_entry_is_late_no_more_after_its_end():
    entry = entry_of("0 * * * *", ends_at_us=NOON + 5 * HOUR)
    assert late_since_us(entry, NOON + 5 * HOUR) == NOON + 2 * HOUR
    assert late_since_us(entry, NOON + 5 * HOUR + 1) is None


def test_success_that_no_decision_has_seen_counts():
    completed = open_firing(41, COMPLETED, completed_at_us=NOON + HOUR + 5)
    entry = entry_of(
        "0 * * * *", entry={"open": (completed, open_firing(42, FAILED, completed_at_us=NOON + DAY))}
    )
    assert last_success_us(entry) == NOON + HOUR + 5
    assert late_at_us(entry) == NOON + 3 * HOUR
    assert last_success_us(entry_of(entry={"open": (open_firing(41, RUNNING),)})) is None
    assert last_success_us(entry_of(entry={"open": (completed,), "last_success_us": NOON + DAY})) == NOON + DAY


@given(st.integers(6, 500), st.integers(0, 3600), st.integers(0, 2000))
def test_an_entry_that_succeeds_at_each_slot_is_never_late(interval_s, lag_s, at_s):
    """A job has one period to succeed; a success after that long makes it late, and no other does."""
    schedule, lag_s = Every(interval_s * SECOND, NOON), lag_s % interval_s
    success_us = schedule.last(NOON + at_s * SECOND - lag_s * SECOND, NOON)
    entry = entry_of(f"@every {interval_s}s")
    if success_us is not None:
        entry = msgspec.structs.replace(entry, last_success_us=success_us + lag_s * SECOND)
    assert late_since_us(entry, NOON + at_s * SECOND) is None

"""Moments as people write them: dates and times, with a zone or in one. Pure: no I/O but reading zones, no clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from mpdispatch.errors import UsageError
from mpdispatch.policy.cron.zones import zone_of
from mpdispatch.policy.names import shown

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FORMS = "a date or a time, such as 2026-11-01, 2026-11-01T03:00 or 2026-11-01T03:00:00Z"


def read_moment(value: object) -> datetime:
    """A datetime, a date (its midnight) or the text of one; naive if it names no zone.

    >>> read_moment("2026-11-01"), read_moment("2026-11-01T03:00Z").isoformat()
    (datetime.datetime(2026, 11, 1, 0, 0), '2026-11-01T03:00:00+00:00')

    Raises UsageError: it is none of these.
    """
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001 - a reading of a clock that is named later
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value.strip())
        except ValueError:
            pass
    raise UsageError(f"must be {_FORMS}, not {shown(value)}")


def moment_us(value: object, zone: str) -> int:
    """The wall time in µs of what `read_moment` takes. A naive one is read on the clocks of this zone.

    Of a time that occurs twice there it is the first; one that does not exist is as much later as the clocks skip.

    >>> moment_us("2026-11-01", "Europe/Berlin") == moment_us("2026-10-31T23:00Z", "Asia/Tokyo")
    True

    Raises UsageError.
    """
    moment = read_moment(value)
    if moment.utcoffset() is None:
        moment = moment.replace(tzinfo=zone_of(zone))
    try:
        return (moment.astimezone(UTC) - _EPOCH) // _MICROSECOND
    except OverflowError:
        raise UsageError(f"must be between the years 1 and 9999, not {shown(value)}") from None


def moment_of_field(field: str, value: object, zone: str) -> int:
    """As `moment_us`; the error names the field."""
    try:
        return moment_us(value, zone)
    except UsageError as error:
        raise UsageError(f"{field}: {error}") from None

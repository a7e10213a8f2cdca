"""What the clocks of a zone read at an instant, and the instants at which they read something. Pure.

Instants are seconds since 1970-01-01 UTC. A *reading* is what a clock shows, as seconds since 1970-01-01 00:00 on that
clock. `zoneinfo` does not give the transitions of a zone, so they are searched for, once for each year.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from mpdispatch.clock import SECOND_US
from mpdispatch.errors import UsageError
from mpdispatch.policy.names import nearest, shown

DAY_S = 86_400
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a reading has no zone
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)


def zone_of(name: object) -> ZoneInfo:
    """The zone of an IANA name.

    Raises UsageError: there is none of this name.
    """
    # right/…: these count leap seconds, which no clock of a computer does.
    if isinstance(name, str) and name and not name.startswith("right/"):
        try:
            return ZoneInfo(name)
        except (OSError, ValueError, LookupError):
            pass  # no such file, a folder, a path that leads out, another file
    alike = nearest(name, available_timezones()) if isinstance(name, str) else None
    hint = f"; did you mean {alike!r}?" if alike else ""
    raise UsageError(
        f"tz: must be the name of a zone such as 'Europe/Berlin' or 'UTC', not {shown(name)}{hint}"
    )


def clock_of(reading: int) -> datetime:
    """A reading as a datetime without a zone.

    Raises OverflowError: it is outside the years 1 to 9999.
    """
    return _EPOCH + timedelta(seconds=reading)


def reading_of(clock: datetime) -> int:
    """The reading of a datetime, whatever its zone; fractions of a second are cut off."""
    since = clock.replace(tzinfo=None) - _EPOCH
    return since.days * DAY_S + since.seconds


def offset(zone: ZoneInfo, at: int) -> int:
    """How far the clocks are ahead of UTC, in seconds.

    >>> offset(ZoneInfo("Asia/Tokyo"), 0)
    32400
    """
    return reading_of(_local(zone, at)) - at


def first_change(zone: ZoneInfo, after: int, until: int) -> int | None:
    """The first instant later than `after`, up to `until`, from which on the clocks have another offset."""
    for year in range(_year(after), _year(until) + 1):
        for change in _changes(zone, year):
            if after < change <= until:
                return change
    return None


def last_change(zone: ZoneInfo, until: int, after: int) -> int | None:
    """The last instant up to `until`, later than `after`, from which on the clocks have another offset."""
    for year in range(_year(until), _year(after) - 1, -1):
        for change in reversed(_changes(zone, year)):
            if after < change <= until:
                return change
    return None


def passed_reading(zone: ZoneInfo, at: int) -> int:
    """The latest reading that clocks have shown for the first time by an instant.

    It is what they show, unless they were set back and show that reading for the second time.
    """
    clock = _local(zone, at)
    if clock.fold and (change := last_change(zone, at, at - 2 * DAY_S)) is not None:
        return change + offset(zone, change - 1) - 1
    return reading_of(clock)


def first_instant(zone: ZoneInfo, reading: int) -> int:
    """When clocks show a reading for the first time; if they skip it, the first instant after the gap.

    >>> first_instant(ZoneInfo("Europe/Berlin"), reading_of(datetime(2026, 3, 29, 2, 30)))
    1774746000
    """
    clock = clock_of(reading).replace(tzinfo=zone)
    at = round(clock.timestamp())
    if at + offset(zone, at) != reading and (change := last_change(zone, at, at - 2 * DAY_S)) is not None:
        return change
    return at


def clock_text(reading: int) -> str:
    """A reading without its day.

    >>> clock_text(9000), clock_text(1)
    ('02:30', '00:00:01')
    """
    return f"{clock_of(reading):%H:%M:%S}".removesuffix(":00")


def change_note(zone: ZoneInfo, at: int, reading: int) -> str:
    """What a change of clocks does to the slot of a reading at an instant, in words. Mostly it is ""."""
    if at + offset(zone, at) != reading:
        return f"{clock_text(reading)} does not exist that day"
    if repeats := repeated_at(zone, at):
        return f"{'first' if repeats == 1 else 'second'} of two {clock_text(reading)}"
    return ""


def moment_text(tz: str, at_us: int) -> str:
    """A wall time in µs as the clocks of a zone show it, to the second, with the offset.

    >>> moment_text("Europe/Berlin", 1_774_746_000_000_000)
    '2026-03-29 03:00+02:00'
    """
    clock = _local(ZoneInfo(tz), at_us // SECOND_US)
    return clock.isoformat(" ", "seconds" if clock.second else "minutes")


def skipped_readings(zone: ZoneInfo, at: int) -> range:
    """The readings that clocks skip at an instant. At most instants it is empty."""
    return range(at + offset(zone, at - 1), at + offset(zone, at))


def repeated_at(zone: ZoneInfo, at: int) -> int:
    """1 or 2 if clocks show the reading of this instant twice, and it is the first or the second time; else 0."""
    clock = _local(zone, at)
    if clock.fold:
        return 2
    later = clock.replace(fold=1)
    # In a gap too the two offsets differ, but no instant has a reading in a gap.
    return 1 if clock.utcoffset() != later.utcoffset() else 0


def _local(zone: ZoneInfo, at: int) -> datetime:
    return (_EPOCH_UTC + timedelta(seconds=at)).astimezone(zone)


def _year(at: int) -> int:
    return clock_of(at).year


@lru_cache(maxsize=4096)
def _changes(zone: ZoneInfo, year: int) -> tuple[int, ...]:
    """The instants of a year (of UTC) at which the offset changes. 0.3 ms.

    Compares days: it would not see two changes within a day that undo one another, but no zone has them.
    """
    start = reading_of(datetime(year, 1, 1))  # noqa: DTZ001 - a reading of UTC
    end = start + (366 if year % 4 == 0 and (year % 100 or year % 400 == 0) else 365) * DAY_S
    changes = []
    before = offset(zone, start - 1)
    for low in range(start - 1, end - 1, DAY_S):
        high = min(low + DAY_S, end - 1)
        after = offset(zone, high)
        if after != before:
            changes.append(_bisect(zone, low, high, before))
        before = after
    return tuple(changes)


def _bisect(zone: ZoneInfo, low: int, high: int, before: int) -> int:
    """The first instant later than `low`, up to `high`, with another offset than `before`."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if offset(zone, middle) == before else (low, middle)
    return high

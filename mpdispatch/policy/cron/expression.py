"""How a schedule is written. Pure, but for reading the zone.

* * * * *      minute, hour, day of month, month, day of week; six fields begin with seconds
@hourly        also @daily (@midnight), @weekly, @monthly, @yearly (@annually)
@every 90s     from the moment it is enabled, in elapsed time
@once 2026-12-01T03:00
@startup       at each start of a supervisor
@reboot        at the first start of a supervisor after a boot
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from cronsim.cronsim import Field

from mpdispatch.clock import SECOND_US
from mpdispatch.errors import UsageError
from mpdispatch.model import CronEntry
from mpdispatch.policy.cron.schedule import Event, Every, Fields, Once, Schedule
from mpdispatch.policy.cron.zones import change_note, first_instant, reading_of, zone_of
from mpdispatch.policy.durations import duration_of
from mpdispatch.policy.names import nearest, shown

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
WORDS = (*ALIASES, "@every", "@once", "@startup", "@reboot")

MAX_CHARS = 1000
MIN_INTERVAL_S = 1.0

# Seconds first. What each field allows besides lists (`1,5`), ranges (`1-5`), steps (`*/2`, `10-20/5`) and `*`.
_FIELDS = {
    Field.SECOND: ("second", "0-59"),
    Field.MINUTE: ("minute", "0-59"),
    Field.HOUR: ("hour", "0-23"),
    Field.DAY: ("day of month", "1-31, L (the last day) or LW (the last day from Monday to Friday)"),
    Field.MONTH: ("month", "1-12 or JAN-DEC"),
    Field.DOW: (
        "day of week",
        "0-7 (0 and 7 are Sunday) or SUN-SAT, 5L (the last Friday) or MON#2 (the second Monday)",
    ),
}


def parse(schedule: object, tz: object, *, anchor_us: int = 0) -> Schedule:
    """The schedule that a text means, in an IANA zone. `anchor_us`: a slot, or the start, of an `@every`.

    >>> parse("30 2 * * MON-FRI", "Europe/Berlin").next(1_774_746_000_000_000)
    1774830600000000
    >>> parse("* 24 * * *", "UTC")
    Traceback (most recent call last):
    mpdispatch.errors.UsageError: schedule: the hour must be 0-23, a list, a range, or a step such as */2, not '24'

    Raises UsageError: the text or the zone is wrong, or the text names times that never come.
    """
    zone = zone_of(tz)
    if not isinstance(schedule, str):
        raise UsageError(f"schedule: must be text such as '0 3 * * *', not {shown(schedule)}")
    if len(schedule) > MAX_CHARS:
        raise UsageError(f"schedule: must have at most {MAX_CHARS} characters, not {len(schedule)}")
    word, _, rest = schedule.strip().partition(" ")
    rest = rest.strip()
    if not word.startswith("@"):
        return _fields(schedule, zone)
    word = word.lower()
    if word == "@every":
        return _every(rest, anchor_us)
    if word == "@once":
        return _once(rest, zone)
    if word not in WORDS:
        alike = nearest(word, WORDS)
        hint = f"; did you mean {alike}?" if alike else ""
        raise UsageError(f"schedule: must be one of {', '.join(WORDS)}, not {shown(word)}{hint}")
    if rest:
        raise UsageError(f"schedule: {word} stands alone, without {shown(rest)}")
    if word == "@startup":
        return Event("startup")
    return Event("reboot") if word == "@reboot" else Fields(ALIASES[word], zone)


def schedule_of(entry: CronEntry) -> Schedule:
    """The schedule of an entry.

    An `@every` goes on from the next slot that was decided: a decision that moves it begins the intervals anew.
    """
    schedule = _parsed(entry.spec.schedule, entry.spec.tz)
    if isinstance(schedule, Every):
        anchor_us = entry.decided_until_us if entry.next_slot_us is None else entry.next_slot_us
        return Every(schedule.interval_us, anchor_us)
    return schedule


# A supervisor asks for each entry at each poll.
@lru_cache(maxsize=4096)
def _parsed(schedule: str, tz: str) -> Schedule:
    return parse(schedule, tz)


def _fields(text: str, zone: ZoneInfo) -> Fields:
    parts = text.upper().split()
    if len(parts) not in (5, 6):
        raise UsageError(
            "schedule: must have five fields (minute, hour, day of month, month, day of week), six (second first), or be"
            f" a word such as @daily or '@every 90s', not {shown(text)}"
        )
    for field, part in zip(list(Field)[-len(parts) :], parts, strict=True):
        _check_field(field, part)
    try:
        CronSim(text, datetime(2000, 1, 1))  # noqa: DTZ001 - a reading has no zone
    except CronSimError:
        found = None
    else:
        found = Fields(text, zone)
    if found is None or not found.has_slots():
        raise UsageError(f"schedule: {shown(text)} names a day that never comes")
    return found


def _check_field(field: Field, part: str) -> None:
    try:
        field.parse(part)
    except CronSimError:
        name, allowed = _FIELDS[field]
        raise UsageError(
            f"schedule: the {name} must be {allowed}, a list, a range, or a step such as */2, not {shown(part)}"
        ) from None


def _every(text: str, anchor_us: int) -> Every:
    interval_s = duration_of("schedule: @every", text)
    if interval_s < MIN_INTERVAL_S:
        raise UsageError(f"schedule: @every must be at least {MIN_INTERVAL_S:g} s, not {shown(text)}")
    return Every(round(interval_s * SECOND_US), anchor_us)


def _once(text: str, zone: ZoneInfo) -> Once:
    try:
        moment = datetime.fromisoformat(text)
        reading = reading_of(moment if moment.tzinfo is None else moment.astimezone(zone))
        # Without an offset it is as a fixed time of its day: see `schedule`.
        at = first_instant(zone, reading) if moment.tzinfo is None else reading_of(moment.astimezone(UTC))
        slot_us = at * SECOND_US + moment.microsecond
        return Once(slot_us, change_note(zone, at, reading))
    except (ValueError, OverflowError):
        raise UsageError(
            f"schedule: @once must be followed by a time such as 2026-12-01T03:00, not {shown(text)}"
        ) from None

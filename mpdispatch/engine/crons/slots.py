"""The slots of an entry in a range that somebody names. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import TypeAlias

from mpdispatch.errors import UsageError
from mpdispatch.model import CronEntry, CronSpec
from mpdispatch.policy.cron.expression import parse, schedule_of
from mpdispatch.policy.moments import moment_of_field
from mpdispatch.policy.names import shown

MOST_BACKFILLED = 100_000
"""The most slots of one backfill."""

Moment: TypeAlias = datetime | date | str


def slots_between(entry: CronEntry, start: Moment, end: Moment, now_us: int) -> Sequence[int]:
    """The slots from `start` up to, but without, `end`, none of them later than now. Raises UsageError."""
    spec, schedule = entry.spec, schedule_of(entry)
    if is_event(spec):
        raise UsageError(f"cron entry {spec.name!r} has no slots by the clock: {spec.schedule}")
    first_us = moment_of_field("from", start, spec.tz)
    end_us = moment_of_field("to", end, spec.tz)
    if end_us <= first_us:
        raise UsageError(f"to: must be later than from: {shown(start)} to {shown(end)} is backwards or empty")
    if spec.starts_at_us is not None:
        first_us = max(first_us, spec.starts_at_us)
    last_us = min(end_us - 1, now_us, *([] if spec.ends_at_us is None else [spec.ends_at_us]))
    found = list[int]()
    for slot_us in schedule.slots(first_us - 1, last_us):
        found.append(slot_us)
        if len(found) > MOST_BACKFILLED:
            raise UsageError(f"to: the range holds more than {MOST_BACKFILLED:,} slots; take a shorter one")
    return found


def is_event(spec: CronSpec) -> bool:
    """Whether slots come with supervisors or boots instead of by the clock."""
    return parse(spec.schedule, spec.tz).kind in ("startup", "reboot")

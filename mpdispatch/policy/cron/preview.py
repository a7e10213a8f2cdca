"""What an entry will do, and why it did not do something, in words. Pure: texts made of facts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from mpdispatch.clock import LATEST_US
from mpdispatch.model import CronDecision, CronEntry, CronSpec, SkippedSlots
from mpdispatch.policy.cron.due import Look, next_slot_us
from mpdispatch.policy.cron.expression import parse, schedule_of
from mpdispatch.policy.cron.late import last_success_us, late_since_us
from mpdispatch.policy.cron.plan import plan, run_at_us
from mpdispatch.policy.cron.schedule import Event, Once, Schedule
from mpdispatch.policy.cron.zones import moment_text


class Preview(NamedTuple):
    """A slot that will fire, or the first one of several that will not."""

    slot_us: int
    run_at_us: int
    """When its job is due."""
    note: str
    """What a change of clocks or a downtime does to it. Mostly it is ""."""


def preview(of: CronSpec | CronEntry, *, count: int, since_us: int, now_us: int) -> list[Preview]:
    """The first `count` slots after now, or after `since_us` if that is later. None for `@startup` and `@reboot`.

    If `since_us` is earlier than now, the slots in between come first, as a supervisor would treat them that starts now
    after a downtime since then: one item for each that fires, and one for all that are skipped in a row.

    An `@every` goes on from the next slot of an entry; with a spec it begins at the earlier of the two moments.
    """
    begin_us = min(since_us, now_us)
    if isinstance(of, CronEntry):
        spec, schedule = of.spec, schedule_of(of)
    else:
        spec, schedule = of, parse(of.schedule, of.tz, anchor_us=begin_us)
    caught_up = _caught_up(spec, schedule, since_us, now_us) if since_us < now_us else []
    ends_at_us = LATEST_US if spec.ends_at_us is None else spec.ends_at_us
    after_us = max(since_us, now_us, (spec.starts_at_us or 0) - 1)
    slots = islice(schedule.slots(after_us, ends_at_us), count)
    return caught_up + [Preview(slot_us, run_at_us(spec, slot_us), schedule.note(slot_us)) for slot_us in slots]


def _caught_up(spec: CronSpec, schedule: Schedule, since_us: int, now_us: int) -> list[Preview]:
    decision = plan(_absent(spec, schedule, since_us), Look(now_us, present_since_us=now_us))
    if decision is None:
        return []
    return sorted([*_fires(schedule, decision), *_skips(spec.tz, decision.skips)])


def _absent(spec: CronSpec, schedule: Schedule, since_us: int) -> CronEntry:
    """An entry for which nobody has looked since then. Its jobs may overlap: how long they take is not known."""
    return CronEntry(
        id=0,
        spec=msgspec.structs.replace(spec, overlap="allow"),
        origin="user",
        app="",
        revision=0,
        is_enabled=True,
        is_orphan=False,
        created_at_us=since_us,
        enabled_at_us=since_us,
        decided_until_us=since_us,
        next_slot_us=next_slot_us(spec, schedule, since_us),
    )


def _fires(schedule: Schedule, decision: CronDecision) -> Iterator[Preview]:
    for firing in decision.fires:
        note = schedule.note(firing.slot_us)
        yield Preview(firing.slot_us, firing.run_at_us, f"catches up; {note}" if note else "catches up")


def _skips(tz: str, skips: Sequence[SkippedSlots]) -> Iterator[Preview]:
    for skip in skips:
        others = (
            "" if skip.first_us == skip.last_us else f", as all slots until {moment_text(tz, skip.last_us)}"
        )
        yield Preview(skip.first_us, skip.first_us, f"skipped{others}: {skip.reason}")


def explain(entry: CronEntry, *, now_us: int, skipped: Sequence[SkippedSlots] = ()) -> list[str]:
    """Why an entry does not fire now, or did not: what weighs most first; never empty.

    `skipped`: the last slots that were skipped, the newest first. Whether a supervisor is running is not known here.
    """
    schedule = schedule_of(entry)
    reasons = list(_held_back(entry, now_us)) or [_what_is_next(entry, schedule, now_us)]
    if (late_us := late_since_us(entry, now_us)) is not None:
        reasons.append(_late_text(entry, late_us))
    return [*reasons, *(_skip_text(entry.spec.tz, each) for each in skipped)]


def _held_back(entry: CronEntry, now_us: int) -> Iterator[str]:
    spec = entry.spec
    if entry.is_orphan:
        yield f"it is an orphan: {entry.app or 'its app'} does not declare it any more, so it does not fire"
    if not entry.is_enabled:
        yield "it is disabled, so it does not fire"
    yield from _outside_window(spec, now_us)
    if (open_ids := entry.open_jobs) and spec.overlap != "allow":
        jobs = (
            f"job {open_ids[0]} has" if len(open_ids) == 1 else f"{len(open_ids)} jobs ({open_ids[0]} …) have"
        )
        yield f"{jobs} not ended: {_OVERLAP_TEXTS[spec.overlap]} (overlap: {spec.overlap})"


def _outside_window(spec: CronSpec, now_us: int) -> Iterator[str]:
    if spec.starts_at_us is not None and now_us < spec.starts_at_us:
        yield f"it fires from {moment_text(spec.tz, spec.starts_at_us)} on (starts_at)"
    if spec.ends_at_us is not None and spec.ends_at_us < now_us:
        yield f"it fires no more since {moment_text(spec.tz, spec.ends_at_us)} (ends_at)"


_OVERLAP_TEXTS = {
    "skip": "slots are skipped until then",
    "queue": "slots wait for that",
    "replace": "the next slot cancels it, and fires after its end",
}


def _what_is_next(entry: CronEntry, schedule: Schedule, now_us: int) -> str:
    tz = entry.spec.tz
    if isinstance(schedule, Event):
        first = "" if schedule.kind == "startup" else " for the first time after a boot"
        return f"it has no slots by the clock: it fires when a supervisor starts{first}"
    slot_us = next_slot_us(entry.spec, schedule, entry.decided_until_us)
    if slot_us is None:
        last = f": its slot was {moment_text(tz, schedule.slot_us)}" if isinstance(schedule, Once) else ""
        return f"it has no more slots{last}"
    text = moment_text(tz, slot_us)
    if slot_us <= now_us:
        return f"its slot {text} is due: a supervisor fires it at its next look"
    note = schedule.note(slot_us)
    return f"its next slot is {text}" + (f" ({note})" if note else "")


def _late_text(entry: CronEntry, late_us: int) -> str:
    tz, success_us = entry.spec.tz, last_success_us(entry)
    since = "yet" if success_us is None else f"since {moment_text(tz, success_us)}"
    return f"it is late since {moment_text(tz, late_us)}: no job of it has completed {since}"


def _skip_text(tz: str, skip: SkippedSlots) -> str:
    first, last = moment_text(tz, skip.first_us), moment_text(tz, skip.last_us)
    slots = f"its slot {first} was" if first == last else f"its slots from {first} to {last} were"
    return f"{slots} skipped: {skip.reason}"

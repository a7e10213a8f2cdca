"""What is to happen to an entry now. Pure.

    slots since the last decision ─▶ missed: catch_up ─┐
                                  ─▶ in time ──────────┴─▶ overlap ─▶ fire, skip, wait

Every supervisor asks for every entry. The store accepts a decision only for the revision of the entry that it was made
for, and one job for each slot; so it does no harm that several decide the same, or that one decides twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple

from mpdispatch.clock import SECOND_US
from mpdispatch.model import CronDecision, CronEntry, CronSpec, Firing, SkippedSlots
from mpdispatch.policy.cron.expression import schedule_of
from mpdispatch.policy.cron.late import last_success_us, late_at_us, late_since_us
from mpdispatch.policy.cron.schedule import Event, Every, Schedule
from mpdispatch.policy.waits import STEP_US

MAX_FIRES = 1000
"""Of one decision; the other slots come with the next one."""
PRESENCE_GAP_US = 10 * SECOND_US
"""A supervisor that has not looked for longer than this begins its presence anew."""
MAX_SPREAD_US = 60 * SECOND_US
"""Jobs of missed slots are due within this time from now."""
CLOSE_WAIT_US = 10 * SECOND_US
"""The ends of jobs are recorded together with the next slot if it comes within this time."""

NO_SUPERVISOR = "missed: no supervisor was running"
ONLY_LATEST = "missed: no supervisor was running, and only the latest slot catches up"
REPLACED = "overlap: replaced by a later slot"


class _Look(NamedTuple):
    """When somebody looks at an entry, and what he knows of the machine: the arguments of `plan`."""

    now_us: int
    present_since_us: int
    starts_us: int | None
    boot_id: str | None
    booted_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    """What becomes of the due slots."""

    decided_until_us: int
    next_slot_us: int | None
    fires: Sequence[Firing] = ()
    skips: Sequence[SkippedSlots] = ()
    cancels: Sequence[int] = ()


@dataclass(slots=True)
class _Due:
    """The due slots that may fire, in ascending order, and what is decided about the others already."""

    slots: list[int]
    until_us: int
    """All due slots up to this moment are in `slots` or in `skips`."""
    missed: int = 0
    """So many of `slots`, the first ones, were missed."""
    skips: list[SkippedSlots] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    """Slots taken out of `slots` that stay undecided; no others are later."""
    cancels: list[int] = field(default_factory=list)


def plan(
    entry: CronEntry,
    *,
    now_us: int,
    present_since_us: int,
    starts_us: int | None = None,
    boot_id: str | None = None,
    booted_us: int | None = None,
) -> CronDecision | None:
    """What is to happen to an entry now; None: nothing.

    `present_since_us`: since when somebody has looked, with no gap of more than PRESENCE_GAP_US; earlier slots were
    missed. `starts_us`: when this supervisor started, which is the slot of `@startup` and `@reboot` entries.
    `booted_us`: when this boot began; with it `@reboot` fires for boots later than the entry only, as in a crontab.

    A decision tells all there is to keep of the entry: its `boot_id`, `last_success_us` and `late_since_us` are those
    from now on, changed or not.

    Raises UsageError: the schedule or the zone cannot be read.
    """
    look = _Look(now_us, present_since_us, starts_us, boot_id, booted_us)
    schedule = schedule_of(entry)
    closes = [each.slot_us for each in entry.open if each.state.is_terminal]
    late_us = late_since_us(entry, now_us)
    can_fire = entry.is_enabled and not entry.is_orphan
    verdict = _verdict(entry, schedule, look) if can_fire else None
    if verdict is None:
        is_slot_near = entry.next_slot_us is not None and entry.next_slot_us - now_us <= CLOSE_WAIT_US
        if late_us == entry.late_since_us and (not closes or (can_fire and is_slot_near)):
            return None
        verdict = _Verdict(decided_until_us=entry.decided_until_us, next_slot_us=entry.next_slot_us)
    has_rebooted = schedule.kind == "reboot" and bool(verdict.fires or verdict.skips)
    return CronDecision(
        cron_id=entry.id,
        revision=entry.revision,
        fires=verdict.fires,
        skips=verdict.skips,
        cancels=verdict.cancels,
        closes=closes,
        decided_until_us=verdict.decided_until_us,
        next_slot_us=verdict.next_slot_us,
        boot_id=boot_id if has_rebooted else entry.boot_id,
        last_success_us=last_success_us(entry),
        late_since_us=late_us,
    )


def next_look_us(entry: CronEntry, now_us: int) -> int | None:
    """When there may be something to decide about an entry, if none of its jobs ends before; None: never.

    It is `now_us` if a slot is due. If `plan` has decided nothing about it, it waits for the end of a job.
    """
    if not entry.is_enabled or entry.is_orphan:
        return None
    next_us = next_slot_us(entry.spec, schedule_of(entry), entry.decided_until_us)
    late_us = late_at_us(entry)
    looks = [] if next_us is None else [max(next_us, now_us)]
    if late_us is not None and late_us > now_us:
        looks.append(late_us)
    return min(looks, default=None)


def next_slot_us(spec: CronSpec, schedule: Schedule, after_us: int) -> int | None:
    """The first slot of an entry later than `after_us`: within its window."""
    slot_us = schedule.next(_begin_us(spec, after_us))
    is_over = slot_us is None or (spec.ends_at_us is not None and slot_us > spec.ends_at_us)
    return None if is_over else slot_us


def run_at_us(spec: CronSpec, slot_us: int) -> int:
    """When the job of a slot is due: up to `jitter_us` later, and always the same for one slot."""
    if not spec.jitter_us:
        return slot_us
    digest = blake2b(f"{spec.name}\0{slot_us}".encode(), digest_size=8).digest()
    return slot_us + (spec.jitter_us * int.from_bytes(digest) >> 64)


def _begin_us(spec: CronSpec, after_us: int) -> int:
    return after_us if spec.starts_at_us is None else max(after_us, spec.starts_at_us - 1)


def _verdict(entry: CronEntry, schedule: Schedule, look: _Look) -> _Verdict | None:
    """What is to be done about slots, or the next one that is known; None: nothing."""
    if isinstance(schedule, Event):
        due = _due_event(entry, schedule, look)
    elif entry.decided_until_us > look.now_us + STEP_US:
        return _set_back(entry, schedule, look.now_us)
    else:
        due = _due_slots(entry, schedule, look)
    if due is not None:
        _OVERLAPS[entry.spec.overlap](entry, due, look.now_us)
        if due.slots or due.skips or due.cancels:
            return _decided(entry, schedule, due, look)
    next_us = next_slot_us(entry.spec, schedule, entry.decided_until_us)
    if next_us == entry.next_slot_us:
        return None
    # The rules of the zone have changed since.
    return _Verdict(decided_until_us=entry.decided_until_us, next_slot_us=next_us)


def _set_back(entry: CronEntry, schedule: Schedule, now_us: int) -> _Verdict | None:
    """The clock was set back: slots may come again, and the store knows those that have fired.

    Intervals run in elapsed time: they begin anew if their next slot is further away than one of them.
    """
    if isinstance(schedule, Every):
        if entry.next_slot_us is None or entry.next_slot_us - now_us <= schedule.interval_us:
            return None
        schedule = Every(schedule.interval_us, now_us)
    return _Verdict(decided_until_us=now_us, next_slot_us=next_slot_us(entry.spec, schedule, now_us))


def _due_event(entry: CronEntry, schedule: Event, look: _Look) -> _Due | None:
    slot_us = _start(entry, look) if schedule.kind == "startup" else _boot(entry, look)
    ends_at_us = entry.spec.ends_at_us
    if slot_us is None or slot_us <= _begin_us(entry.spec, slot_us - 1):
        return None
    return None if ends_at_us is not None and slot_us > ends_at_us else _Due([slot_us], slot_us)


def _start(entry: CronEntry, look: _Look) -> int | None:
    """The start of a supervisor that asks, if it is none that the entry has fired for."""
    was_set_back = entry.decided_until_us > look.now_us + STEP_US
    is_new = look.starts_us is not None and (was_set_back or look.starts_us > entry.decided_until_us)
    return look.starts_us if is_new else None


def _boot(entry: CronEntry, look: _Look) -> int | None:
    """The start of a supervisor that asks, if the entry has not fired in this boot."""
    is_new = look.boot_id not in (None, entry.boot_id)
    is_later = look.booted_us is None or entry.enabled_at_us < look.booted_us
    return (look.starts_us or look.now_us) if is_new and is_later else None


def _due_slots(entry: CronEntry, schedule: Schedule, look: _Look) -> _Due | None:
    """The slots that have passed since the last decision, without those that `catch_up` leaves out."""
    spec, now_us = entry.spec, look.now_us
    after_us = _begin_us(spec, entry.decided_until_us)
    until_us = now_us if spec.ends_at_us is None else min(now_us, spec.ends_at_us)
    first_us = schedule.next(after_us)
    if first_us is None or first_us > until_us:
        return None
    # A presence that begins later than now is one of before the clock was set back.
    was_set_back = look.present_since_us > now_us
    missed_until_us = after_us if was_set_back else min(until_us, look.present_since_us - 1)
    keep = {"skip": 0, "latest": 1, "all": spec.catch_up_limit}[spec.catch_up]
    missed = schedule.previous_n(missed_until_us, after_us, keep)
    skips = []
    if first_us <= missed_until_us and first_us not in missed[:1]:
        last_us = schedule.last(missed[0] - 1 if missed else missed_until_us, after_us)
        skips.append(SkippedSlots(first_us, last_us or first_us, _missed_reason(spec), now_us))
    in_time = schedule.slots(max(after_us, missed_until_us), until_us)
    slots = [*missed, *islice(in_time, max(0, MAX_FIRES + 1 - len(missed)))]
    due = _Due(slots, now_us, len(missed), skips)
    if len(slots) > MAX_FIRES:
        due.until_us = slots[MAX_FIRES - 1]
        del slots[MAX_FIRES:]
    return due


def _missed_reason(spec: CronSpec) -> str:
    match spec.catch_up:
        case "skip":
            return NO_SUPERVISOR
        case "latest":
            return ONLY_LATEST
        case "all":
            return f"{NO_SUPERVISOR}, and {spec.catch_up_limit} later slots catch up (catch_up_limit)"


def _allow(entry: CronEntry, due: _Due, now_us: int) -> None:
    """All fire."""


def _skip(entry: CronEntry, due: _Due, now_us: int) -> None:
    """The first fires if nothing is open; the others are skipped."""
    if open_id := _open_id(entry):
        _skip_slots(due, len(due.slots), f"overlap: job {open_id} had not ended", now_us, begin=0)
    else:
        _skip_slots(due, len(due.slots), "overlap: the job of the slot before had not ended", now_us, begin=1)


def _queue(entry: CronEntry, due: _Due, now_us: int) -> None:
    """The first fires if nothing is open; the others wait, the last `catch_up_limit` of them."""
    fires = 0 if _open_id(entry) else 1
    too_many = len(due.slots) - fires - entry.spec.catch_up_limit
    if too_many > 0:
        limit = entry.spec.catch_up_limit
        _skip_slots(
            due, too_many, f"overlap: {limit} later slots wait already (catch_up_limit)", now_us, begin=0
        )
    _wait(due, fires)


def _replace(entry: CronEntry, due: _Due, now_us: int) -> None:
    """The last fires as soon as nothing is open; the others are skipped."""
    _skip_slots(due, len(due.slots) - 1, REPLACED, now_us, begin=0)
    open_ids = [each.job_id for each in entry.open if not each.state.is_terminal]
    if due.slots and open_ids:
        # The decision that cancels them moves the entry to just before the slot that waits.
        was_decided = entry.decided_until_us == due.slots[0] - 1
        due.cancels = [] if was_decided else open_ids
        _wait(due, 0)


_OVERLAPS = {"allow": _allow, "skip": _skip, "queue": _queue, "replace": _replace}


def _open_id(entry: CronEntry) -> int | None:
    """The first job of an entry that has not ended."""
    return next((each.job_id for each in entry.open if not each.state.is_terminal), None)


def _skip_slots(due: _Due, end: int, reason: str, now_us: int, *, begin: int) -> None:
    """Skip the slots from `begin` to before `end` in the list of the due ones."""
    if skipped := due.slots[begin:end]:
        due.skips.append(SkippedSlots(skipped[0], skipped[-1], reason, now_us))
        del due.slots[begin:end]
        due.missed = max(0, due.missed - max(0, min(end, due.missed) - begin))


def _wait(due: _Due, begin: int) -> None:
    due.waiting = due.slots[begin:]
    del due.slots[begin:]


def _decided(entry: CronEntry, schedule: Schedule, due: _Due, look: _Look) -> _Verdict:
    until_us = due.waiting[0] - 1 if due.waiting else due.until_us
    return _Verdict(
        decided_until_us=until_us,
        next_slot_us=next_slot_us(entry.spec, schedule, until_us),
        fires=_firings(entry.spec, schedule, due, look.now_us),
        skips=due.skips,
        cancels=due.cancels,
    )


def _firings(spec: CronSpec, schedule: Schedule, due: _Due, now_us: int) -> list[Firing]:
    """Missed slots are due one after the other from now on, the others at their time."""
    missed, in_time = due.slots[: due.missed], due.slots[due.missed :]
    firings = []
    if missed:
        period_us = schedule.period_us(missed[-1]) or MAX_SPREAD_US
        step_us = min(period_us, MAX_SPREAD_US) // len(missed)
        firings = [Firing(slot_us, now_us + nth * step_us) for nth, slot_us in enumerate(missed)]
    return firings + [Firing(slot_us, run_at_us(spec, slot_us)) for slot_us in in_time]

"""What is to happen to an entry now. Pure.

    slots since the last decision ──(due: catch_up)──▶ those that may fire ──(overlap)──▶ fire, skip, wait

Every supervisor asks for every entry. The store accepts a decision only for the revision of the entry that it was made
for, and one job for each slot; so it does no harm that several decide the same, or that one decides twice.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from mpdispatch.clock import SECOND_US
from mpdispatch.model import CronDecision, CronEntry, CronSpec, Firing
from mpdispatch.policy.cron.due import Due, Look, due_event, due_slots, next_slot_us
from mpdispatch.policy.cron.expression import schedule_of
from mpdispatch.policy.cron.late import last_success_us, late_at_us, late_since_us
from mpdispatch.policy.cron.overlap import keep_apart
from mpdispatch.policy.cron.schedule import Event, Every, Schedule
from mpdispatch.policy.waits import STEP_US

MAX_SPREAD_US = 60 * SECOND_US
"""Jobs of missed slots are due within this time from now."""
CLOSE_WAIT_US = 10 * SECOND_US
"""The ends of jobs are recorded together with the next slot if it comes within this time."""


def plan(entry: CronEntry, look: Look) -> CronDecision | None:
    """What is to happen to an entry now; None: nothing.

    The `boot_id`, `last_success_us` and `late_since_us` of a decision are those of the entry from now on, changed or not.

    Raises UsageError: the schedule or the zone cannot be read.
    """
    schedule = schedule_of(entry)
    # What there is to keep if nothing happens to slots.
    kept = CronDecision(
        cron_id=entry.id,
        revision=entry.revision,
        closes=[each.slot_us for each in entry.open if each.state.is_terminal],
        decided_until_us=entry.decided_until_us,
        next_slot_us=entry.next_slot_us,
        boot_id=entry.boot_id,
        last_success_us=last_success_us(entry),
        late_since_us=late_since_us(entry, look.now_us),
    )
    may_wait = not kept.closes
    if entry.may_fire:
        if (decision := _about_slots(kept, entry, schedule, look)) is not None:
            return decision
        may_wait = may_wait or _is_near(entry.next_slot_us, look.now_us)
    return None if may_wait and kept.late_since_us == entry.late_since_us else kept


def next_look_us(entry: CronEntry, now_us: int) -> int | None:
    """When there may be something to decide about an entry, if none of its jobs ends before; None: never.

    It is `now_us` if a slot is due. If `plan` has decided nothing about it, it waits for the end of a job.
    """
    if not entry.may_fire:
        return None
    next_us = next_slot_us(entry.spec, schedule_of(entry), entry.decided_until_us)
    late_us = late_at_us(entry)
    looks = [] if next_us is None else [max(next_us, now_us)]
    if late_us is not None and late_us > now_us:
        looks.append(late_us)
    return min(looks, default=None)


def run_at_us(spec: CronSpec, slot_us: int) -> int:
    """When the job of a slot is due: up to `jitter_us` later, and always the same for one slot."""
    if not spec.jitter_us:
        return slot_us
    digest = blake2b(f"{spec.name}\0{slot_us}".encode(), digest_size=8).digest()
    return slot_us + (spec.jitter_us * int.from_bytes(digest) >> 64)


def _is_near(slot_us: int | None, now_us: int) -> bool:
    return slot_us is not None and slot_us - now_us <= CLOSE_WAIT_US


def _about_slots(kept: CronDecision, entry: CronEntry, schedule: Schedule, look: Look) -> CronDecision | None:
    """The decision with what happens to slots, or with another next one; None: nothing happens to them."""
    if isinstance(schedule, Event):
        due = due_event(entry, schedule, look)
    elif entry.decided_until_us > look.now_us + STEP_US:
        return _set_back(kept, entry, schedule, look.now_us)
    else:
        due = due_slots(entry, schedule, look)
    if due is not None:
        keep_apart(entry, due, look.now_us)
        if due.slots or due.skips or due.cancels:
            return _decided(kept, entry, schedule, due, look)
    next_us = next_slot_us(entry.spec, schedule, entry.decided_until_us)
    if next_us == entry.next_slot_us:
        return None
    # The rules of the zone have changed since.
    return msgspec.structs.replace(kept, next_slot_us=next_us)


def _set_back(kept: CronDecision, entry: CronEntry, schedule: Schedule, now_us: int) -> CronDecision | None:
    """The clock was set back: slots may come again, and the store knows those that have fired.

    Intervals run in elapsed time: they begin anew if their next slot is further away than one of them.
    """
    if isinstance(schedule, Every):
        if entry.next_slot_us is None or entry.next_slot_us - now_us <= schedule.interval_us:
            return None
        schedule = Every(schedule.interval_us, now_us)
    next_us = next_slot_us(entry.spec, schedule, now_us)
    return msgspec.structs.replace(kept, decided_until_us=now_us, next_slot_us=next_us)


def _decided(kept: CronDecision, entry: CronEntry, schedule: Schedule, due: Due, look: Look) -> CronDecision:
    until_us = due.waiting[0] - 1 if due.waiting else due.until_us
    has_booted = schedule.kind == "reboot" and (due.slots or due.skips)
    return msgspec.structs.replace(
        kept,
        decided_until_us=until_us,
        next_slot_us=next_slot_us(entry.spec, schedule, until_us),
        fires=_firings(entry.spec, schedule, due, look.now_us),
        skips=due.skips,
        cancels=due.cancels,
        boot_id=look.boot_id if has_booted else entry.boot_id,
    )


def _firings(spec: CronSpec, schedule: Schedule, due: Due, now_us: int) -> list[Firing]:
    """Missed slots are due one after the other from now on, the others at their time."""
    missed, in_time = due.slots[: due.missed], due.slots[due.missed :]
    firings = []
    if missed:
        period_us = schedule.period_us(missed[-1]) or MAX_SPREAD_US
        step_us = min(period_us, MAX_SPREAD_US) // len(missed)
        firings = [Firing(slot_us, now_us + nth * step_us) for nth, slot_us in enumerate(missed)]
    return firings + [Firing(slot_us, run_at_us(spec, slot_us)) for slot_us in in_time]

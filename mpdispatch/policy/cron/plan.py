"""What is to happen to an entry now. Pure.

    slots since the last decision ──(due: catch_up)──▶ those that may fire ──(overlap)──▶ fire, skip, wait

Every supervisor asks for every entry. The store accepts a decision only for the revision of the entry that it was made
for, and one job for each slot; so it does no harm that several decide the same, or that one decides twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from mpdispatch.clock import SECOND_US
from mpdispatch.model import CronDecision, CronEntry, CronSpec, Firing, SkippedSlots
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    """What becomes of the due slots."""

    decided_until_us: int
    next_slot_us: int | None
    fires: Sequence[Firing] = ()
    skips: Sequence[SkippedSlots] = ()
    cancels: Sequence[int] = ()

    @property
    def has_settled(self) -> bool:
        """Whether a slot has fired or was skipped."""
        return bool(self.fires or self.skips)


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
    look = Look(now_us, present_since_us, starts_us, boot_id, booted_us)
    schedule = schedule_of(entry)
    closes = [each.slot_us for each in entry.open if each.state.is_terminal]
    late_us = late_since_us(entry, now_us)
    can_fire = entry.is_enabled and not entry.is_orphan
    verdict = _verdict(entry, schedule, look) if can_fire else None
    if verdict is None:
        may_wait = can_fire and _is_near(entry.next_slot_us, now_us)
        if late_us == entry.late_since_us and (may_wait or not closes):
            return None
        verdict = _Verdict(decided_until_us=entry.decided_until_us, next_slot_us=entry.next_slot_us)
    return CronDecision(
        cron_id=entry.id,
        revision=entry.revision,
        fires=verdict.fires,
        skips=verdict.skips,
        cancels=verdict.cancels,
        closes=closes,
        decided_until_us=verdict.decided_until_us,
        next_slot_us=verdict.next_slot_us,
        boot_id=boot_id if schedule.kind == "reboot" and verdict.has_settled else entry.boot_id,
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


def run_at_us(spec: CronSpec, slot_us: int) -> int:
    """When the job of a slot is due: up to `jitter_us` later, and always the same for one slot."""
    if not spec.jitter_us:
        return slot_us
    digest = blake2b(f"{spec.name}\0{slot_us}".encode(), digest_size=8).digest()
    return slot_us + (spec.jitter_us * int.from_bytes(digest) >> 64)


def _is_near(slot_us: int | None, now_us: int) -> bool:
    return slot_us is not None and slot_us - now_us <= CLOSE_WAIT_US


def _verdict(entry: CronEntry, schedule: Schedule, look: Look) -> _Verdict | None:
    """What is to be done about slots, or the next one that is known; None: nothing."""
    if isinstance(schedule, Event):
        due = due_event(entry, schedule, look)
    elif entry.decided_until_us > look.now_us + STEP_US:
        return _set_back(entry, schedule, look.now_us)
    else:
        due = due_slots(entry, schedule, look)
    if due is not None:
        keep_apart(entry, due, look.now_us)
        if due.slots or due.skips or due.cancels:
            return _decided(entry, schedule, due, look.now_us)
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


def _decided(entry: CronEntry, schedule: Schedule, due: Due, now_us: int) -> _Verdict:
    until_us = due.waiting[0] - 1 if due.waiting else due.until_us
    return _Verdict(
        decided_until_us=until_us,
        next_slot_us=next_slot_us(entry.spec, schedule, until_us),
        fires=_firings(entry.spec, schedule, due, now_us),
        skips=due.skips,
        cancels=due.cancels,
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

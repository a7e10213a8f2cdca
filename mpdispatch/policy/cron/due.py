"""Which slots of an entry are due, and which of those that were missed may still fire. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from mpdispatch.clock import SECOND_US
from mpdispatch.model import CronEntry, CronSpec, SkippedSlots
from mpdispatch.policy.cron.schedule import Event, Schedule
from mpdispatch.policy.waits import STEP_US

MAX_FIRES = 1000
"""The most firings of one decision; other slots come with the next one. Also the most that `catch_up_limit` may be, since
each look at an entry finds as many slots again, at 40 µs each."""
PRESENCE_GAP_US = 10 * SECOND_US
"""A supervisor that has not looked for longer than this begins its presence anew."""

NO_SUPERVISOR = "missed: no supervisor was running"
ONLY_LATEST = "missed: no supervisor was running, and only the latest slot catches up"


class Look(NamedTuple):
    """When a supervisor looks at an entry, and what it knows of itself and the machine."""

    now_us: int
    present_since_us: int
    """Since when it has looked, with no gap of more than PRESENCE_GAP_US. Earlier slots were missed."""
    starts_us: int | None = None
    """When it started, which is the slot of `@startup` and `@reboot` entries; None: they do not fire."""
    boot_id: str | None = None
    booted_us: int | None = None
    """When this boot began. With it `@reboot` fires only for boots later than the entry, as in a crontab."""


@dataclass(slots=True)
class Due:
    """The due slots that may fire, in ascending order, and what is decided about the others already.

    At most MAX_FIRES + 1 of them: one more than may fire at once.
    """

    slots: list[int]
    until_us: int
    """All due slots up to this moment are in `slots` or in `skips`."""
    missed: int = 0
    """How many of `slots`, the first ones, were missed."""
    skips: list[SkippedSlots] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    """Slots taken out of `slots`, which stay undecided: the latest ones."""
    cancels: list[int] = field(default_factory=list)
    """Jobs to cancel."""

    def skip(self, begin: int, end: int, reason: str, now_us: int) -> None:
        """Skip the slots from `begin` to before `end` in the list."""
        if skipped := self.slots[begin:end]:
            self.skips.append(SkippedSlots(skipped[0], skipped[-1], reason, now_us))
            del self.slots[begin:end]
            self.missed -= max(0, min(end, self.missed) - begin)

    def wait(self, begin: int) -> None:
        """Leave the slots from `begin` on undecided."""
        self.waiting = self.slots[begin:]
        del self.slots[begin:]


def begin_us(spec: CronSpec, after_us: int) -> int:
    """`after_us`, or the moment before the window of an entry if that is later."""
    return after_us if spec.starts_at_us is None else max(after_us, spec.starts_at_us - 1)


def next_slot_us(spec: CronSpec, schedule: Schedule, after_us: int) -> int | None:
    """The first slot of an entry later than `after_us`: within its window."""
    slot_us = schedule.next(begin_us(spec, after_us))
    is_over = slot_us is None or (spec.ends_at_us is not None and slot_us > spec.ends_at_us)
    return None if is_over else slot_us


def due_slots(entry: CronEntry, schedule: Schedule, look: Look) -> Due | None:
    """The slots that have passed since the last decision; `catch_up` may skip some of them. None: there are none."""
    spec, now_us = entry.spec, look.now_us
    after_us = begin_us(spec, entry.decided_until_us)
    until_us = now_us if spec.ends_at_us is None else min(now_us, spec.ends_at_us)
    first_us = schedule.next(after_us)
    if first_us is None or first_us > until_us:
        return None
    # A presence that begins later than now began before the clock was set back.
    was_set_back = look.present_since_us > now_us
    missed_until_us = after_us if was_set_back else min(until_us, look.present_since_us - 1)
    missed, skips = _catch_up(spec, schedule, (after_us, missed_until_us), now_us)
    in_time = schedule.slots(max(after_us, missed_until_us), until_us)
    slots = [*missed, *islice(in_time, max(0, MAX_FIRES + 1 - len(missed)))]
    return Due(slots, slots[-1] if len(slots) > MAX_FIRES else now_us, len(missed), skips)


def due_event(entry: CronEntry, schedule: Event, look: Look) -> Due | None:
    """The start of a supervisor, if it is a slot of an `@startup` or `@reboot` entry that has not fired for it."""
    slot_us = _start(entry, look) if schedule.kind == "startup" else _boot(entry, look)
    ends_at_us = entry.spec.ends_at_us
    if slot_us is None or slot_us <= begin_us(entry.spec, slot_us - 1):
        return None
    return None if ends_at_us is not None and slot_us > ends_at_us else Due([slot_us], slot_us)


def _catch_up(
    spec: CronSpec, schedule: Schedule, missed: tuple[int, int], now_us: int
) -> tuple[list[int], list[SkippedSlots]]:
    """Of the slots that were missed (after the first moment, up to the second), those that fire and the other ones."""
    after_us, until_us = missed
    keep = {"skip": 0, "latest": 1, "all": spec.catch_up_limit}[spec.catch_up]
    kept = schedule.previous_n(until_us, after_us, keep)
    first_us = schedule.next(after_us)
    last_us = schedule.last(kept[0] - 1 if kept else until_us, after_us)
    if first_us is None or last_us is None:
        return kept, []
    return kept, [SkippedSlots(first_us, last_us, _missed_reason(spec), now_us)]


def _missed_reason(spec: CronSpec) -> str:
    match spec.catch_up:
        case "skip":
            return NO_SUPERVISOR
        case "latest":
            return ONLY_LATEST
        case "all":
            return f"{NO_SUPERVISOR}, and {spec.catch_up_limit} later slots catch up (catch_up_limit)"


def _start(entry: CronEntry, look: Look) -> int | None:
    """The start of the supervisor that asks, if it is later than those for which the entry has fired."""
    was_set_back = entry.decided_until_us > look.now_us + STEP_US
    is_new = look.starts_us is not None and (was_set_back or look.starts_us > entry.decided_until_us)
    return look.starts_us if is_new else None


def _boot(entry: CronEntry, look: Look) -> int | None:
    """The start of the supervisor that asks, if the entry has not fired in this boot."""
    is_new = look.boot_id not in (None, entry.boot_id)
    is_later = look.booted_us is None or entry.enabled_at_us < look.booted_us
    return (look.starts_us or look.now_us) if is_new and is_later else None

"""What happens to due slots while earlier jobs of their entry have not ended. Pure."""

from __future__ import annotations

from mpdispatch.model import CronEntry
from mpdispatch.policy.cron.due import MAX_FIRES, Due

REPLACED = "overlap: replaced by a later slot"


def keep_apart(entry: CronEntry, due: Due, now_us: int) -> None:
    """Leave those slots in `due.slots` that may fire now, by the entry's `overlap`."""
    open_now = [each for each in entry.open if not each.state.is_terminal]
    open_ids = [each.job_id for each in open_now]
    match entry.spec.overlap:
        case "allow":
            due.wait(MAX_FIRES)
        case "skip":
            _skip(due, open_ids, now_us)
        case "queue":
            _queue(due, open_ids, now_us, entry.spec.catch_up_limit)
        case "replace":
            # The decision that cancels them moves the entry to the moment before the slot that waits.
            cancelled_for_us = entry.decided_until_us + 1
            # A clock that was set back brings a slot again whose own job is open.
            others = [each.job_id for each in open_now if each.slot_us not in due.slots[-1:]]
            _replace(due, others, now_us, cancelled_for_us=cancelled_for_us)


def _skip(due: Due, open_ids: list[int], now_us: int) -> None:
    """The first fires if nothing is open; the others are skipped."""
    if open_ids:
        due.skip(0, len(due.slots), f"overlap: job {open_ids[0]} had not ended", now_us)
    else:
        due.skip(1, len(due.slots), "overlap: the job of the slot before had not ended", now_us)


def _queue(due: Due, open_ids: list[int], now_us: int, limit: int) -> None:
    """The first fires if nothing is open; the others wait, the last `limit` of them."""
    fires = 0 if open_ids else 1
    too_many = max(0, len(due.slots) - fires - limit)
    due.skip(0, too_many, f"overlap: {limit} later slots wait already (catch_up_limit)", now_us)
    due.wait(fires)


def _replace(due: Due, open_ids: list[int], now_us: int, *, cancelled_for_us: int) -> None:
    """The last fires as soon as nothing is open; the others are skipped."""
    due.skip(0, len(due.slots) - 1, REPLACED, now_us)
    if due.slots and open_ids:
        due.cancels = [] if due.slots[0] == cancelled_for_us else open_ids
        due.wait(0)

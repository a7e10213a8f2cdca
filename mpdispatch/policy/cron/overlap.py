"""What happens to due slots while earlier jobs of their entry have not ended. Pure."""

from __future__ import annotations

from mpdispatch.model import CronEntry
from mpdispatch.policy.cron.due import MAX_FIRES, Due

REPLACED = "overlap: replaced by a later slot"


def keep_apart(entry: CronEntry, due: Due, now_us: int) -> None:
    """Leave those slots in `due.slots` that may fire now, by the entry's `overlap`."""
    open_ids = entry.open_jobs
    match entry.spec.overlap:
        case "allow":
            due.wait(MAX_FIRES)
        case "skip":
            _skip(due, open_ids, now_us)
        case "queue":
            _queue(due, open_ids, now_us, entry.spec.catch_up_limit)
        case "replace":
            _replace(entry, due, now_us)


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


def _replace(entry: CronEntry, due: Due, now_us: int) -> None:
    """The last fires as soon as no other job is open; the slots before it are skipped."""
    due.skip(0, len(due.slots) - 1, REPLACED, now_us)
    if not due.slots:
        return
    slot_us = due.slots[0]
    # After the clock was set back, a slot comes again whose own job may be open.
    others = [each.job_id for each in entry.open if not each.state.is_terminal and each.slot_us != slot_us]
    if others:
        # The decision that cancels them moves the entry to the moment before this slot.
        is_cancelled = slot_us == entry.decided_until_us + 1
        due.cancels = [] if is_cancelled else others
        due.wait(0)

"""Deletes old slots and skips of cron entries, but never the last ones of an entry. Steps for a `rounds.Round`."""

from __future__ import annotations

from typing import NamedTuple

from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.rounds import Step, Steps, read_step

_KEPT = 100
"""Slots of an entry that stay however old they are, and as many skips. `cron history` shows them."""
_ENTRIES = 200
_ROWS = 200
"""Rows per step: about 1 ms."""
_EARLIEST, _LATEST = -(1 << 63), (1 << 63) - 1


class _Table(NamedTuple):
    """The queries for fired slots, or for skips."""

    nth_last: str
    old: str
    delete: str


_TABLES = (
    _Table("nth_last_slot", "old_slots", "prune_slot"),
    _Table("nth_last_skip", "old_skips", "prune_skip"),
)


def steps(before_us: int) -> Steps[None]:
    """Delete what is older than this. Slots that an entry has not decided about by its own clock stay too."""
    after = _EARLIEST
    while True:
        entries = yield read_step("crons_with_history", {"after": after, "limit": _ENTRIES})
        for cron_id, is_there, decided_us in entries:
            for table in _TABLES:
                until_us = _LATEST
                if is_there:
                    kept = yield read_step(table.nth_last, {"cron_id": cron_id, "skip": _KEPT - 1})
                    until_us = min(kept[0][0], decided_us + 1) if kept else _EARLIEST
                yield from _sweep(table, cron_id, until_us, before_us)
        if len(entries) < _ENTRIES:
            return
        after = entries[-1][0]


def _sweep(table: _Table, cron_id: int, until_us: int, before_us: int) -> Steps[None]:
    after = _EARLIEST
    while True:
        values = {"cron_id": cron_id, "after": after, "until": until_us, "before": before_us, "limit": _ROWS}
        rows = yield read_step(table.old, values)
        gone = [{"cron_id": cron_id, "slot": slot_us, "at": at_us} for slot_us, at_us, may_go in rows if may_go]
        if gone:
            yield Step(lambda c, gone=gone: c.executemany(QUERIES[table.delete], gone), True)  # type: ignore[misc]
        if len(rows) < _ROWS:
            return
        after = rows[-1][0]

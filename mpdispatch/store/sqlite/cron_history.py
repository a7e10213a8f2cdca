"""Deletes old slots and skips of cron entries, but never the last ones of an entry. Steps for a `rounds.Round`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mpdispatch import sqlite3
from mpdispatch.store.sqlite.queries import QUERIES
from mpdispatch.store.sqlite.rounds import Step, Steps

_KEPT = 100
"""Slots of an entry that stay however old they are, and as many skips. `cron history` shows them."""
_ENTRIES = 200
_ROWS = 200
"""Rows per step: about 1 ms."""
_LATEST = (1 << 63) - 1


class _Table(NamedTuple):
    nth_last: str
    old: str
    delete: str


_TABLES = (
    _Table("nth_last_slot", "old_slots", "prune_slot"),
    _Table("nth_last_skip", "old_skips", "prune_skip"),
)


def steps(before_us: int) -> Steps[None]:
    """Delete what is older than this. Slots that an entry has not decided on by its own clock stay too."""
    after = -(1 << 63)
    while True:
        values = {"after": after, "limit": _ENTRIES}
        entries = yield Step(
            lambda c, values=values: c.execute(QUERIES["crons_with_history"], values).fetchall(),  # type: ignore[misc]
            False,
        )
        for cron_id, is_there, decided_us in entries:
            for table in _TABLES:
                until_us = _LATEST
                if is_there:
                    kept_us = yield Step(_first_kept(table, cron_id), False)
                    until_us = min(kept_us, decided_us + 1)
                yield from _sweep(table, cron_id, until_us, before_us)
        if len(entries) < _ENTRIES:
            return
        after = entries[-1][0]


def _first_kept(table: _Table, cron_id: int) -> Callable[[sqlite3.Connection], int]:
    def work(connection: sqlite3.Connection) -> int:
        row = connection.execute(QUERIES[table.nth_last], (cron_id, _KEPT - 1)).fetchone()
        return -(1 << 63) if row is None else int(row[0])

    return work


def _sweep(table: _Table, cron_id: int, until_us: int, before_us: int) -> Steps[None]:
    after = -(1 << 63)
    while True:
        values = {
            "cron_id": cron_id,
            "after": after,
            "until": until_us,
            "before": before_us,
            "limit": _ROWS,
        }
        rows = yield Step(
            lambda c, values=values: c.execute(QUERIES[table.old], values).fetchall(),  # type: ignore[misc]
            False,
        )
        gone = [(cron_id, at_us, key) for at_us, key, may_go in rows if may_go]
        if gone:
            yield Step(lambda c, gone=gone: c.executemany(QUERIES[table.delete], gone), True)  # type: ignore[misc]
        if len(rows) < _ROWS:
            return
        after = rows[-1][0]

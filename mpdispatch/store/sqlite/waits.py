"""Jobs put off by a clock that was set back since: looked for without the write lock, so many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mpdispatch import sqlite3
from mpdispatch.model import JobState
from mpdispatch.policy.waits import STEP_US, rebased_us
from mpdispatch.store.base import WaitsSeen
from mpdispatch.store.sqlite.queries import QUERIES

__all__ = ["LOOK_AT_MOST", "find", "rebase"]

LOOK_AT_MOST = 1000
"""Rows per look: some 3 ms."""

_STATES = (JobState.RETRYING, JobState.SCHEDULED)

Change = tuple[int, int, int]
"""(new run_at, job id, run_at it must still have)"""


def find(
    connection: sqlite3.Connection, queues: Sequence[str], now_us: int, after: WaitsSeen | None
) -> tuple[list[Change], WaitsSeen | None]:
    """What to change of the next LOOK_AT_MOST waiting jobs, and where that ended; None: with the last one.

    A job that was never started waits for the moment its user has named, whatever the clock says.
    """
    changes, left = list[Change](), LOOK_AT_MOST
    places = [(queue, state) for queue in queues for state in _STATES]
    # What is due within a second has nothing to gain.
    seen = after or WaitsSeen(0, now_us + STEP_US, 0)
    for at, (queue, state) in list(enumerate(places))[seen.place :]:
        if at != seen.place:
            seen = WaitsSeen(at, now_us + STEP_US, 0)
        values = (queue, state.value, seen.run_at_us, seen.run_at_us, seen.job_id, left)
        rows = connection.execute(QUERIES["waits"], values).fetchall()
        changes += _changes(rows, now_us)
        left -= len(rows)
        if left <= 0:
            job_id, run_at_us, _ = rows[-1]
            return changes, WaitsSeen(at, run_at_us, job_id)
    return changes, None


def _changes(rows: Iterable[tuple[int, int, int | None]], now_us: int) -> Iterable[Change]:
    for job_id, run_at_us, put_off_us in rows:
        if put_off_us is None:
            continue
        due_us = rebased_us(run_at_us, put_off_us, now_us=now_us)
        if due_us != run_at_us:
            yield due_us, job_id, run_at_us


def rebase(connection: sqlite3.Connection, changes: Iterable[Change]) -> int:
    """Write these; gives how many still waited as they did when they were looked for."""
    return connection.executemany(QUERIES["rebase_wait"], changes).rowcount

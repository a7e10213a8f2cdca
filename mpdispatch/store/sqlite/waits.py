"""Waiting jobs and when they were put off: read so many at a time, without the write lock; a few are moved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mpdispatch import sqlite3
from mpdispatch.model import JobState
from mpdispatch.store.sqlite.queries import QUERIES
from mpdispatch.store.waits import Rebase, Wait, WaitsSeen

__all__ = ["LOOK_AT_MOST", "find", "rebase"]

LOOK_AT_MOST = 1000
"""Rows per look: some 3 ms."""

_STATES = (JobState.RETRYING, JobState.SCHEDULED)


def find(
    connection: sqlite3.Connection, queues: Sequence[str], after_us: int, seen: WaitsSeen | None
) -> tuple[list[Wait], WaitsSeen | None]:
    """Those of the next LOOK_AT_MOST waiting jobs that were started before, and where that ended; None: with the last."""
    found, left = list[Wait](), LOOK_AT_MOST
    places = [(queue, state) for queue in queues for state in _STATES]
    first = seen.place if seen is not None else 0
    for place in range(first, len(places)):
        queue, state = places[place]
        _, run_at_us, job_id = seen if seen is not None and place == first else (place, after_us + 1, 0)
        values = (queue, state.value, run_at_us, run_at_us, job_id, left)
        rows = connection.execute(QUERIES["waits"], values).fetchall()
        # A job that was never started waits for the moment its user has named; what is no time is no wait (a turn ends
        # the row of such a job).
        found += [Wait(*row) for row in rows if type(row[1]) is int and type(row[2]) is int]
        left -= len(rows)
        if left <= 0:
            job_id, run_at_us, _ = rows[-1]
            return found, WaitsSeen(place, run_at_us, job_id)
    return found, None


def rebase(connection: sqlite3.Connection, changes: Iterable[Rebase]) -> int:
    """Move these; gives how many still waited as they did when they were looked for."""
    values = [(each.run_at_us, each.job_id, each.was_us) for each in changes]
    return connection.executemany(QUERIES["rebase_wait"], values).rowcount

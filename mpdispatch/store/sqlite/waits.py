"""Waiting jobs and when they were put off: read in chunks without the write lock; a few get a new due time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mpdispatch import sqlite3
from mpdispatch.model import JobState
from mpdispatch.store.sqlite.queries import QUERIES
from mpdispatch.store.waits import Rebase, Wait, WaitsSeen

LOOK_AT_MOST = 1000
"""Rows per read: some 3 ms."""

_STATES = (JobState.RETRYING, JobState.SCHEDULED)


def find(
    connection: sqlite3.Connection, queues: Sequence[str], after_us: int, seen: WaitsSeen | None
) -> tuple[list[Wait], WaitsSeen | None]:
    """Among the next LOOK_AT_MOST waiting jobs, those started before; and where to continue (None: at the end)."""
    found, left = list[Wait](), LOOK_AT_MOST
    places = [(queue, state) for queue in queues for state in _STATES]
    first = seen.place if seen is not None else 0
    for place in range(first, len(places)):
        queue, state = places[place]
        _, run_at_us, job_id = seen if seen is not None and place == first else (place, after_us + 1, 0)
        values = (queue, state.value, run_at_us, run_at_us, job_id, left)
        rows = connection.execute(QUERIES["waits"], values).fetchall()
        # A job never started waits for a time its user chose. An invalid time is skipped: a commit ends that job's row.
        found += [Wait(*row) for row in rows if type(row[1]) is int and type(row[2]) is int]
        left -= len(rows)
        if left <= 0:
            job_id, run_at_us, _ = rows[-1]
            return found, WaitsSeen(place, run_at_us, job_id)
    return found, None


def rebase(connection: sqlite3.Connection, changes: Iterable[Rebase]) -> int:
    """Change due times. Returns the number of jobs changed: those still waiting with their old due time."""
    values = [(each.run_at_us, each.job_id, each.was_us) for each in changes]
    return connection.executemany(QUERIES["rebase_wait"], values).rowcount

"""Jobs that were put off: if the clock was set back since, they begin their wait anew (see `policy.waits`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mpdispatch.clock import Instant
from mpdispatch.model import JobState
from mpdispatch.policy.waits import STEP_US, rebased_us
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.queries import QUERIES

LOOK_AT_MOST = 1000
"""Rows per read: some 3 ms."""

_STATES = (JobState.RETRYING, JobState.SCHEDULED)


class Rebase(NamedTuple):
    """Another due time for a waiting job. Wall times in µs; the order is that of the query."""

    due_us: int
    job_id: int
    was_us: int


class Seen(NamedTuple):
    """Where to continue reading the waiting jobs."""

    place: int
    run_at_us: int
    job_id: int


def outdated(
    connection: Connection, queues: Sequence[str], now: Instant, seen: Seen | None
) -> tuple[list[Rebase], Seen | None]:
    """The changes that the next LOOK_AT_MOST waiting jobs need; and where to continue (None: at the end)."""
    found, left = list[Rebase](), LOOK_AT_MOST
    # Jobs that are due within a moment are skipped: a change would not help them.
    first_us = now.wall_us + STEP_US + 1
    places = [(queue, state) for queue in queues for state in _STATES]
    first = seen.place if seen is not None else 0
    for place in range(first, len(places)):
        queue, state = places[place]
        _, run_at_us, job_id = seen if seen is not None and place == first else (place, first_us, 0)
        values = (queue, state.value, run_at_us, run_at_us, job_id, left)
        rows = connection.execute(QUERIES["waits"], values).fetchall()
        for job_id, run_at_us, put_off_us in rows:
            # A job never started waits for a time its user chose. An invalid time is skipped: a commit ends that row.
            if type(run_at_us) is int and type(put_off_us) is int:
                due_us = rebased_us(run_at_us, put_off_us, now_us=now.wall_us)
                if due_us != run_at_us:
                    found.append(Rebase(due_us, job_id, run_at_us))
        left -= len(rows)
        if left <= 0:
            job_id, run_at_us, _ = rows[-1]
            return found, Seen(place, run_at_us, job_id)
    return found, None


def rebase(connection: Connection, changes: Iterable[Rebase]) -> int:
    """Change due times. Returns the number of jobs changed: those still waiting with their old due time."""
    return connection.executemany(QUERIES["rebase_wait"], changes).rowcount

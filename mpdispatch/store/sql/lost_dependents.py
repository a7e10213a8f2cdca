"""Jobs that wait for others and that nothing would release, as another program has written to the store.

Such a job is in the lane of dependents and has no row in `mpdispatch_dependents`; or it has one and is not in that lane;
or none of its parents is left to end.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mpdispatch.clock import Instant
from mpdispatch.store.sql import dependents, follow_ups
from mpdispatch.store.sql.candidates import as_json
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.follow_ups import Followed
from mpdispatch.store.sql.queries import QUERIES

LOOK_AT_MOST = 500
"""Dependents per step: some 2 ms."""
_BEFORE_ALL = -(1 << 63)


def look(connection: Connection, after: int, most: int = LOOK_AT_MOST) -> tuple[list[int], int | None]:
    """Ids of lost ones among the next dependents by id; and the last id checked (None: no more dependents)."""
    last, count, found = connection.execute(QUERIES["lost_dependents"], (after, most)).fetchone()
    return msgspec.json.decode(found, type=list[int]), last if count == most else None


def is_lost(connection: Connection, job_id: int) -> bool:
    """Whether this job is in the lane of dependents and nothing would release it."""
    if connection.execute(QUERIES["is_in_lane_4"], (job_id,)).fetchone() is None:
        return False
    is_there = connection.execute(QUERIES["policy_of"], (job_id,)).fetchone() is not None
    return not is_there or look(connection, job_id - 1, 1)[0] == [job_id]


def all_lost(connection: Connection) -> list[int]:
    """All of them. Reads the whole table of jobs."""
    found = [row[0] for row in connection.execute(QUERIES["without_dependent"])]
    after: int | None = _BEFORE_ALL
    while after is not None:
        some, after = look(connection, after)
        found += some
    return sorted(found)


def mend(connection: Connection, ids: Iterable[int], now: Instant) -> tuple[Followed, int]:
    """Have each wait for the parents that are left, run, or be cancelled, as its parents say; gives how many there were.

    A row of a job in another lane is deleted.
    """
    due, blamed, count = list[int](), dict[int, int](), 0
    for job_id in ids:
        count += 1
        row = connection.execute(QUERIES["is_in_lane_4"], (job_id,)).fetchone()
        if row is None:
            connection.execute(QUERIES["forget_dependents"], (as_json([job_id]),))
        elif (failed := dependents.mend(connection, job_id, row[0])) is not None:
            blamed[job_id] = failed
        elif not dependents.awaited(connection, job_id):
            due.append(job_id)
    if due:
        connection.execute(QUERIES["all_parents_ended"], {"now": now.wall_us, "ids": as_json(due)})
    states = dict(connection.execute(QUERIES["ended_states"], (as_json(blamed.values()),)).fetchall())
    dependents.cancel(connection, blamed, states, now)
    followed = follow_ups.run_after(connection, list(blamed), now)
    followed.has_due = followed.has_due or bool(due)
    return followed, count

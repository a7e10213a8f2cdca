"""Deletes jobs that ended long ago: found without the write lock, deleted a few hundred at a time."""

from __future__ import annotations

from mpdispatch import sqlite3
from mpdispatch.failpoints import failpoint
from mpdispatch.store.sqlite.queries import QUERIES

PRUNE_AT_ONCE = 500
"""Rows per transaction: a claim waits at most some 10 ms for it (measured: 500 plain jobs in 4–8 ms)."""
_NEVER_GIVEN = 1 << 62
_LOOK_AT_MOST = 20_000
_EVERYWHERE = ("prune_payload", "prune_result", "prune_attempts", "prune_outputs", "prune_dead_letter")


def find(connection: sqlite3.Connection, before_us: int, limit: int) -> list[int]:
    """Ids of up to `limit` jobs that ended before this wall time. A bounded read, so it may miss some."""
    found = list[int]()
    for state, queue in connection.execute(QUERIES["ended_places"]).fetchall():
        values = (state, queue, before_us, _LOOK_AT_MOST, limit - len(found))
        found += [row[0] for row in connection.execute(QUERIES["prunable"], values)]
        if len(found) >= limit:
            break
    return found


def delete(connection: sqlite3.Connection, ids: list[int], before_us: int) -> int:
    """Delete these jobs and all their records, in the caller's transaction. Returns the number deleted."""
    failpoint("prune.before_rows")
    gone = 0
    for job_id in ids:
        if connection.execute(QUERIES["prune_job"], (job_id, before_us)).rowcount == 1:
            gone += 1
            for query in _EVERYWHERE:
                connection.execute(QUERIES[query], (job_id,))
    # Skip ids so high that they were written by hand: remembering one would leave no ids for new jobs.
    if given := [each for each in ids if each < _NEVER_GIVEN]:
        connection.execute(QUERIES["prune_up_to"], (str(max(given)),))
    return gone

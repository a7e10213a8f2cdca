"""Requests to cancel running jobs, and late requests, whose job has ended.

An outcome removes its job's request from the index, except for a plain completion: clearing the column there would make
SQLite access that index for every job. So late requests are removed here.
"""

from __future__ import annotations

from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.queries import QUERIES

FORGET_AT_ONCE = 1000
"""Rows per transaction: a claim waits at most some milliseconds for it."""


def requests(connection: Connection, owner: int) -> tuple[list[tuple[int, int]], bool]:
    """(job id, starts) of this owner's running jobs with a cancel request, and whether late requests exist."""
    has_late = bool(connection.execute(QUERIES["has_late_cancels"]).fetchone()[0])
    # With 150,000 late requests, a scan of all requests would take 0.2 s at every enqueue.
    query = "cancel_requests_of" if has_late else "cancel_requests"
    return connection.execute(QUERIES[query], (owner,)).fetchall(), has_late


def forget_late(connection: Connection) -> int:
    """Remove up to FORGET_AT_ONCE late requests. Returns the count."""
    return connection.execute(QUERIES["forget_late_cancels"], (FORGET_AT_ONCE,)).rowcount

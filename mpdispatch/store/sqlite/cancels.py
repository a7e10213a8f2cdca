"""Requests to cancel running jobs, and those that came too late: their job ended meanwhile.

An outcome takes its job's request out of the index, but for a plain completion: to clear the column there would have
SQLite look at that index for every job. So a request that lost the race is taken out here.
"""

from __future__ import annotations

from mpdispatch import sqlite3
from mpdispatch.store.sqlite.queries import QUERIES

__all__ = ["FORGET_AT_ONCE", "forget_late", "requests"]

FORGET_AT_ONCE = 1000
"""Rows per transaction: a claim waits some milliseconds for it at most."""


def requests(connection: sqlite3.Connection, owner: int) -> tuple[list[tuple[int, int]], bool]:
    """(job id, starts) of running jobs of this owner somebody asked to cancel, and whether any request came too late."""
    has_late = bool(connection.execute(QUERIES["has_late_cancels"]).fetchone()[0])
    # With 150,000 late ones among them a walk over all requests would take 0.2 s, each time somebody enqueues.
    query = "cancel_requests_of" if has_late else "cancel_requests"
    return connection.execute(QUERIES[query], (owner,)).fetchall(), has_late


def forget_late(connection: sqlite3.Connection) -> int:
    """Take up to FORGET_AT_ONCE of them out; gives how many."""
    return connection.execute(QUERIES["forget_late_cancels"], (FORGET_AT_ONCE,)).rowcount

"""Ends waiting jobs that have expired. A claim hands in the rows it met; upkeep looks for those that nobody claims."""

from __future__ import annotations

from collections.abc import Sequence

from mpdispatch.clock import Instant
from mpdispatch.model import ClaimedJob
from mpdispatch.policy.expiry import expired
from mpdispatch.store.sql import follow_ups
from mpdispatch.store.sql.candidates import OddRowError, as_json
from mpdispatch.store.sql.columns import RUN_COLUMNS
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.finish import record_attempts
from mpdispatch.store.sql.follow_ups import Ended, Followed
from mpdispatch.store.sql.mending import mended
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.text import lenient_text

EXPIRE_AT_MOST = 500
"""Per step of the upkeep: a transaction must not hold the write lock for long."""


def end(connection: Connection, jobs: Sequence[ClaimedJob], now: Instant) -> Followed:
    """Cancel these waiting jobs, which have expired, and add that to their histories.

    Raises OddRowError: a row is not in the state of a waiting job, though it is in a lane.
    """
    ended: list[Ended] = [(job, expired(job, now.wall_us)) for job in jobs]
    values = (now.wall_us, as_json(job.id for job in jobs))
    touched = connection.execute(QUERIES["expire"], values).rowcount
    if touched != len(ended):
        raise OddRowError(f"{touched} rows of {len(ended)} could expire")
    # Whatever another program has put there: no start of ours has this place.
    record_attempts(connection, [transition for _, transition in ended], insert="INSERT OR REPLACE")
    return follow_ups.run_for(connection, ended, now)


def is_any_past(connection: Connection, now: Instant) -> bool:
    """Whether there is anything for `end_past` to do: a seek, nearly always. A running job is its supervisor's."""
    return bool(connection.execute(QUERIES["is_any_expired"], (now.wall_us,)).fetchone()[0])


def end_past(connection: Connection, now: Instant) -> tuple[Followed, int, bool]:
    """End up to EXPIRE_AT_MOST waiting jobs that have expired, in all queues, and clear the expiry of as many ended ones.

    Returns what followed, the number of jobs, and whether there may be more to do.
    """
    values = (now.wall_us, EXPIRE_AT_MOST)
    with lenient_text(connection):  # a job that cannot be read expires as any other
        rows = connection.execute(QUERIES["expired_waiting"], values).fetchall()
    jobs = [ClaimedJob(*mended(RUN_COLUMNS[:-1], row)) for row in rows]
    forgotten = connection.execute(QUERIES["forget_expiry"], values).rowcount
    followed = end(connection, jobs, now) if jobs else Followed()
    return followed, len(jobs), EXPIRE_AT_MOST in (len(jobs), forgotten)

"""The places of jobs in batches. Inside a transaction that inserts jobs."""

from __future__ import annotations

from mpdispatch.errors import BatchClosedError, BatchNotFoundError
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.queries import QUERIES


def add(connection: Connection, batch_id: int, count: int) -> None:
    """Count new members. Raises BatchNotFoundError, BatchClosedError."""
    if connection.execute(QUERIES["add_members"], (count, batch_id)).rowcount == 1:
        return
    found = connection.execute(QUERIES["judged_batch"], (batch_id,)).fetchone()
    if found is None:
        raise BatchNotFoundError(batch_id)
    raise BatchClosedError(batch_id, is_cancelled=found[2] is not None)


def replace(connection: Connection, job_id: int) -> None:
    """An ended member is enqueued again: the new job takes its place in the batch, which has not ended then."""
    batch_id, state, is_retried = connection.execute(QUERIES["member_of"], (job_id,)).fetchone()
    if batch_id is not None:
        values = {"id": batch_id, "state": state, "is_retried": is_retried}
        connection.execute(QUERIES["retry_member"], values)

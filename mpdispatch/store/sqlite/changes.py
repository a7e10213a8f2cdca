"""Changes of jobs by people whose rows may be unreadable."""

from __future__ import annotations

from mpdispatch.clock import Instant
from mpdispatch.errors import InvalidStateError
from mpdispatch.model import Job
from mpdispatch.store.sql import changes
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sqlite.translate import is_moved, is_no_id_left


def request_cancel(connection: Connection, job_id: int, now: Instant) -> bool:
    """As `changes.request_cancel`, also of a row that holds what the table forbids or a state that is none."""
    try:
        if changes.request_cancel(connection, job_id, now):
            return True
    except connection.IntegrityError as error:
        if is_moved(error):
            raise
    from mpdispatch.store.sqlite.unreadable import cancel  # what it imports no other client needs

    return cancel(connection, job_id, now)


def retry(connection: Connection, job_id: int, now: Instant) -> Job:
    """As `changes.retry`. Raises InvalidStateError also for a row that holds what the table forbids."""
    try:
        return changes.retry(connection, job_id, now)
    except connection.IntegrityError as error:
        if is_no_id_left(error) or is_moved(error):
            raise
        reason = f"its row holds what the table forbids ({error}); cancel it, and enqueue it anew"
        raise InvalidStateError(job_id, "unreadable", reason) from error

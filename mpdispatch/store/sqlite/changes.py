"""Changes that people make to a job: cancel it, run it (again). Each inside one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from mpdispatch import sqlite3
from mpdispatch.clock import Instant
from mpdispatch.errors import InvalidStateError
from mpdispatch.model import Job
from mpdispatch.store.sqlite import dependents, follow_ups, reads
from mpdispatch.store.sqlite.candidates import as_json
from mpdispatch.store.sqlite.dead_letters import enqueue_again
from mpdispatch.store.sqlite.queries import QUERIES
from mpdispatch.store.sqlite.translate import INTEGRITY_ERRORS, is_no_id_left


def cancel(connection: sqlite3.Connection, job_id: int, now: Instant) -> Job:
    if not request_cancel(connection, job_id, now):
        state = reads.state_of(connection, job_id)
        raise InvalidStateError(job_id, state, "only a job that has not ended can be cancelled")
    return reads.job(connection, job_id)


def request_cancel(connection: sqlite3.Connection, job_id: int, now: Instant) -> bool:
    """Cancel a waiting job, ask the supervisor of a running one to end it. False: it has ended, or is gone."""
    try:
        if connection.execute(QUERIES["cancel_waiting"], (now.wall_us, job_id)).rowcount:
            follow_ups.run(connection, [job_id], now)
            return True
        if connection.execute(QUERIES["cancel_running"], (now.wall_us, job_id)).rowcount:
            return True
    except INTEGRITY_ERRORS:
        pass
    return _cancel_unreadable(connection, job_id, now)


def _cancel_unreadable(connection: sqlite3.Connection, job_id: int, now: Instant) -> bool:
    from mpdispatch.store.sqlite.unreadable import cancel  # what it imports no other client needs

    return cancel(connection, job_id, now)


def retry(connection: sqlite3.Connection, job_id: int, now: Instant) -> Job:
    try:
        if connection.execute(QUERIES["run_now"], (now.wall_us, job_id)).rowcount:
            return reads.job(connection, job_id)
        job = enqueue_again(connection, job_id, now)
    except INTEGRITY_ERRORS as error:
        if is_no_id_left(error):
            raise
        reason = f"its row holds what the table forbids ({error}); cancel it, and enqueue it anew"
        raise InvalidStateError(job_id, "unreadable", reason) from error
    if job is None:
        state = reads.state_of(connection, job_id)
        reason = "only a scheduled, retrying, failed or cancelled job can be retried"
        if awaited := dependents.awaited(connection, job_id):
            more = f" and {len(awaited) - 1:,} more" if len(awaited) > 1 else ""
            reason = f"it waits for job {awaited[0].id}{more}, and is due once that has ended"
        raise InvalidStateError(job_id, state, reason)
    return job


def retry_many(
    connection: sqlite3.Connection, job_ids: Sequence[int], now: Instant
) -> tuple[list[Job], dict[int, str]]:
    """As `retry` of each that may run again. Returns the jobs that do, and by id why others cannot."""
    jobs, errors = list[Job](), dict[int, str]()
    found = {job_id for (job_id,) in connection.execute(QUERIES["retriable"], (as_json(job_ids),))}
    for job_id in dict.fromkeys(job_ids):
        if job_id not in found:
            continue
        connection.execute("SAVEPOINT one")
        try:
            job = retry(connection, job_id, now)
        except InvalidStateError as error:
            connection.execute("ROLLBACK TO one")
            errors[job_id] = str(error)
        else:
            if job.created:
                jobs.append(job)
        connection.execute("RELEASE one")
    return jobs, errors

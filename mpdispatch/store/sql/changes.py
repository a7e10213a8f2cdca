"""Changes that people make to a job: cancel it, run it (again). Each inside one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mpdispatch.clock import Instant
from mpdispatch.errors import InvalidStateError
from mpdispatch.model import Job
from mpdispatch.store.sql import dependents, follow_ups, reads
from mpdispatch.store.sql.candidates import as_json
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.dead_letters import enqueue_again
from mpdispatch.store.sql.queries import QUERIES

RequestCancel = Callable[[Connection, int, Instant], bool]
"""As `request_cancel`: a backend that meets unreadable rows has its own."""
Retry = Callable[[Connection, int, Instant], Job]
"""The same of `retry`."""


def cancel(connection: Connection, job_id: int, now: Instant, request_cancel: RequestCancel) -> Job:
    if not request_cancel(connection, job_id, now):
        state = reads.state_of(connection, job_id)
        raise InvalidStateError(job_id, state, "only a job that has not ended can be cancelled")
    return reads.job(connection, job_id)


def request_cancel(connection: Connection, job_id: int, now: Instant) -> bool:
    """Cancel a waiting job, ask the supervisor of a running one to end it. False: it has ended, or is gone."""
    if connection.execute(QUERIES["cancel_waiting"], (now.wall_us, job_id)).rowcount:
        follow_ups.run(connection, [job_id], now)
        return True
    return bool(connection.execute(QUERIES["cancel_running"], (now.wall_us, job_id)).rowcount)


def retry(connection: Connection, job_id: int, now: Instant) -> Job:
    if connection.execute(QUERIES["run_now"], (now.wall_us, job_id)).rowcount:
        return reads.job(connection, job_id)
    job = enqueue_again(connection, job_id, now)
    if job is None:
        state = reads.state_of(connection, job_id)
        reason = "only a scheduled, retrying, failed or cancelled job can be retried"
        if awaited := dependents.awaited(connection, job_id):
            more = f" and {len(awaited) - 1:,} more" if len(awaited) > 1 else ""
            reason = f"it waits for job {awaited[0].id}{more}, and is due once that has ended"
        raise InvalidStateError(job_id, state, reason)
    return job


def retry_many(
    connection: Connection, job_ids: Sequence[int], now: Instant, retry: Retry
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

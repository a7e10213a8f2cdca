"""Inserts jobs. Inside one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, groupby

import msgspec

from mpdispatch.clock import Instant
from mpdispatch.model import AlikeJobs, Job, NewJob
from mpdispatch.store.sql import dependents, members, reads
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.rows import INLINE_BYTES, fresh_job, new_job_row, stored_json

_INSERT = QUERIES["insert_job"]
INSERT_UNLESS_KEY_IN_USE = _INSERT + "\n" + QUERIES["unless_key_in_use"]

InsertAlike = Callable[[Connection, NewJob, Sequence[bytes], Instant], Sequence[int]]
"""Inserts one job per payload, without idempotency keys, and returns their ids. The jobs differ in nothing else."""


def is_one_statement(job: NewJob) -> bool:
    """Whether `insert` needs only one statement for this job."""
    return (
        job.idempotency_key is None
        and len(job.payload) <= INLINE_BYTES
        and job.batch_id is None
        and not job.after
    )


def insert(connection: Connection, job: NewJob, now: Instant) -> Job:
    """Insert one job, or return the one that already has its idempotency key.

    Raises BatchNotFoundError, BatchClosedError, UnknownParentError.
    """
    is_small = len(job.payload) <= INLINE_BYTES
    payload = stored_json(job.payload)
    row = new_job_row(job, payload if is_small else None, now.wall_us)
    cursor = connection.execute(_INSERT if job.idempotency_key is None else INSERT_UNLESS_KEY_IN_USE, row)
    if cursor.rowcount != 1:
        return _older(connection, job)
    job_id = cursor.lastrowid
    assert job_id is not None
    if not is_small:
        connection.execute(QUERIES["insert_payload"], (job_id, payload))
    if job.batch_id is not None:
        members.add(connection, job.batch_id, 1)
    if job.after:
        dependents.add(connection, [job_id], job, now)
        return reads.job(connection, job_id)
    return fresh_job(job, job_id, row)


def _older(connection: Connection, job: NewJob) -> Job:
    row = connection.execute(QUERIES["id_of_key"], (job.name, job.idempotency_key)).fetchone()
    return reads.job(connection, row[0], created=False)


def insert_many(
    connection: Connection, jobs: Sequence[NewJob], now: Instant, batch_id: int, insert_alike: InsertAlike
) -> Sequence[int]:
    """Insert jobs as members of a batch; returns their ids in order.

    If an idempotency key is in use, the id is the older job's, which stays in its own batch.
    """
    runs = [_inserted(connection, *run, now, batch_id, insert_alike) for run in _runs(jobs)]
    return runs[0] if len(runs) == 1 else list(chain.from_iterable(runs))


def _runs(jobs: Sequence[NewJob]) -> Iterable[tuple[NewJob, Sequence[bytes]]]:
    """Groups of consecutive jobs that differ only in payload: one job of each group, and all its payloads."""
    if isinstance(jobs, AlikeJobs):
        return [(jobs.template, jobs.payloads)]
    alike = groupby(jobs, key=lambda job: msgspec.structs.replace(job, payload=b""))
    return ((template, [job.payload for job in some]) for template, some in alike)


def _inserted(
    connection: Connection,
    template: NewJob,
    payloads: Sequence[bytes],
    now: Instant,
    batch_id: int,
    insert_alike: InsertAlike,
) -> Sequence[int]:
    template = msgspec.structs.replace(template, batch_id=batch_id)
    if template.idempotency_key is None and template.retried_from is None:
        ids = insert_alike(connection, template, payloads, now)
        members.add(connection, batch_id, len(ids))
        if template.after:
            dependents.add(connection, ids, template, now)
        return ids
    return [insert(connection, job, now).id for job in AlikeJobs(template, payloads)]

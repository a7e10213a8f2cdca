"""Inserts jobs, on our connection or the caller's."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, groupby
from typing import Any

import msgspec

from mpdispatch import sqlite3
from mpdispatch.clock import Instant
from mpdispatch.errors import StoreCorrupt, StoreError, UsageError
from mpdispatch.model import AlikeJobs, Job, NewJob
from mpdispatch.store.sqlite import dependents, members, reads
from mpdispatch.store.sqlite.bulk import ManyRows
from mpdispatch.store.sqlite.connection import Session
from mpdispatch.store.sqlite.mending import lenient
from mpdispatch.store.sqlite.queries import QUERIES
from mpdispatch.store.sqlite.rows import INLINE_BYTES, fresh_job, new_job_row, stored_json
from mpdispatch.store.sqlite.translate import NO_ID_LEFT, translated

_INSERT = QUERIES["insert_job"]
_INSERT_UNLESS_KEY_IN_USE = _INSERT + "\n" + QUERIES["unless_key_in_use"]
_MOST_ID = (1 << 63) - 1
_INSERT_BATCH = ManyRows(QUERIES["insert_batch"])


def is_one_statement(job: NewJob) -> bool:
    """Whether `insert` needs only one statement for this job."""
    return (
        job.idempotency_key is None
        and len(job.payload) <= INLINE_BYTES
        and job.batch_id is None
        and not job.after
    )


def insert(connection: sqlite3.Connection | sqlite3.Cursor, job: NewJob, now: Instant) -> Job:
    """Insert one job, or return the one that already has its idempotency key.

    Raises BatchNotFoundError, BatchClosedError, UnknownParentError.
    """
    is_small = len(job.payload) <= INLINE_BYTES
    payload = stored_json(job.payload)
    row = new_job_row(job, payload if is_small else None, now.wall_us)
    cursor = connection.execute(_INSERT if job.idempotency_key is None else _INSERT_UNLESS_KEY_IN_USE, row)
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


def _older(connection: sqlite3.Connection | sqlite3.Cursor, job: NewJob) -> Job:
    row = connection.execute(QUERIES["id_of_key"], (job.name, job.idempotency_key)).fetchone()
    return reads.job(connection, row[0], created=False)


def insert_many(
    connection: sqlite3.Connection, jobs: Sequence[NewJob], now: Instant, batch_id: int
) -> Sequence[int]:
    """Insert jobs as members of a batch; returns their ids in order.

    If an idempotency key is in use, the id is the older job's, which stays in its own batch.
    """
    runs = [_inserted(connection, *run, now, batch_id) for run in _runs(jobs)]
    return runs[0] if len(runs) == 1 else list(chain.from_iterable(runs))


def _runs(jobs: Sequence[NewJob]) -> Iterable[tuple[NewJob, Sequence[bytes]]]:
    """Groups of consecutive jobs that differ only in payload: one job of each group, and all its payloads."""
    if isinstance(jobs, AlikeJobs):
        return [(jobs.template, jobs.payloads)]
    alike = groupby(jobs, key=lambda job: msgspec.structs.replace(job, payload=b""))
    return ((template, [job.payload for job in some]) for template, some in alike)


def _inserted(
    connection: sqlite3.Connection, template: NewJob, payloads: Sequence[bytes], now: Instant, batch_id: int
) -> Sequence[int]:
    template = msgspec.structs.replace(template, batch_id=batch_id)
    if template.idempotency_key is None and template.retried_from is None:
        ids = _insert_alike(connection, template, payloads, now)
        members.add(connection, batch_id, len(ids))
        if template.after:
            dependents.add(connection, ids, template, now)
        return ids
    return [insert(connection, job, now).id for job in AlikeJobs(template, payloads)]


def _insert_alike(
    connection: sqlite3.Connection, template: NewJob, payloads: Sequence[bytes], now: Instant
) -> range:
    """Insert one job per payload, with consecutive ids. The jobs differ in nothing else."""
    first = _last_id(connection) + 1
    if first + len(payloads) > _MOST_ID:
        raise StoreCorrupt(main_file_of(connection), NO_ID_LEFT)
    *constants, _payload = new_job_row(template, None, now.wall_us)
    values, large = list[Any](), list[tuple[int, str | bytes]]()
    for job_id, payload in enumerate(payloads, first):
        text = stored_json(payload)
        if len(payload) <= INLINE_BYTES:
            values += (job_id, text)
        else:
            values += (job_id, None)
            large.append((job_id, text))
    _INSERT_BATCH.execute(connection, values, before=constants)
    if large:
        connection.executemany(QUERIES["insert_payload"], large)
    return range(first, first + len(payloads))


def _last_id(connection: sqlite3.Connection) -> int:
    found: int = connection.execute(QUERIES["last_id"]).fetchone()[0]
    return found


# ---------------------------------------------------------------- the caller's own connection


def refuse_other_sqlite(connection: Any, copy: str) -> None:
    """Raise UsageError unless this is a connection of the store's own copy of SQLite (see `sqlite3.COPIES`)."""
    if sqlite3.copy_of(connection) == copy:
        return
    kind = type(connection)
    raise UsageError(
        f"connection= is a {kind.__module__}.{kind.__qualname__}, not a {sqlite3.COPIES[copy].__name__}.Connection;"
        " two copies of SQLite on one file in one process corrupt it"
    )


def main_file_of(connection: sqlite3.Connection) -> str:
    """The path of the file a connection has open; `""` for a database in memory."""
    cursor = connection.cursor()
    cursor.row_factory = None
    # As bytes: the name may not be UTF-8, and the caller's text_factory is unknown.
    factory, connection.text_factory = connection.text_factory, bytes
    try:
        # The main database comes first.
        name = cursor.execute("PRAGMA database_list").fetchone()[2]
    finally:
        connection.text_factory = factory
        cursor.close()
    return os.fsdecode(name or "")


def refuse_other_file(connection: sqlite3.Connection, session: Session) -> None:
    """Raise UsageError unless the connection's main database is the store's own file."""
    if session.path is None:
        raise UsageError(
            "connection= needs a store in a file; an in-memory store has one connection of its own"
        )
    name = main_file_of(connection)
    try:
        is_same = os.path.samefile(name, session.path)
    except OSError:
        is_same = False
    if not is_same:
        raise UsageError(f"connection= is open on {name or 'no file'}, the store is {session.path}")


def insert_on(connection: sqlite3.Connection, job: NewJob, now: Instant) -> Job:
    """Insert on the caller's connection, in its current transaction if any.

    Runs only the INSERT, but for a job with parents or in a batch: that takes several statements, and reading.
    """
    cursor = connection.cursor()
    cursor.row_factory = None
    text_factory, connection.text_factory = connection.text_factory, lenient
    try:
        if not job.after and job.batch_id is None:
            return insert(cursor, job, now)
        with _all_or_nothing(connection, cursor):
            return insert(cursor, job, now)
    except sqlite3.ERRORS as error:
        problem = translated(error, "connection=")
        if isinstance(problem, StoreError):
            raise problem from error
        raise
    finally:
        connection.text_factory = text_factory


@contextmanager
def _all_or_nothing(connection: sqlite3.Connection, cursor: sqlite3.Cursor) -> Iterator[None]:
    """Whatever is raised, nothing of this stays in the caller's transaction.

    If there is none, one begins: it is committed here if the connection commits each statement by itself, and else it is
    the caller's to commit, as one that the sqlite3 module begins.
    """
    is_ours = not connection.in_transaction
    if is_ours:
        cursor.execute("BEGIN IMMEDIATE")
    cursor.execute("SAVEPOINT mpdispatch_enqueue")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # else SQLite has rolled it back itself, as when the disk is full
            cursor.execute("ROLLBACK TO mpdispatch_enqueue")
            cursor.execute("RELEASE mpdispatch_enqueue")
            if is_ours:
                cursor.execute("ROLLBACK")
        raise
    cursor.execute("RELEASE mpdispatch_enqueue")
    if is_ours and (connection.isolation_level is None or getattr(connection, "autocommit", None) is True):
        cursor.execute("COMMIT")

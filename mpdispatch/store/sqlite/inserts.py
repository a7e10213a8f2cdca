"""Inserts many jobs at once, and jobs on the caller's own connection."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from mpdispatch import sqlite3
from mpdispatch.clock import Instant
from mpdispatch.errors import StoreCorrupt, StoreError, UsageError
from mpdispatch.model import Job, NewJob
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.inserts import insert
from mpdispatch.store.sql.mending import lenient
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.rows import INLINE_BYTES, new_job_row, stored_json
from mpdispatch.store.sqlite.bulk import ManyRows
from mpdispatch.store.sqlite.connection import Session
from mpdispatch.store.sqlite.queries import QUERIES as OURS
from mpdispatch.store.sqlite.translate import NO_ID_LEFT, translated

_MOST_ID = (1 << 63) - 1
_INSERT_BATCH = ManyRows(OURS["insert_batch"])


def insert_alike(connection: Connection, template: NewJob, payloads: Sequence[bytes], now: Instant) -> range:
    """Insert one job per payload, with consecutive ids. The jobs differ in nothing else."""
    first = connection.execute(OURS["last_id"]).fetchone()[0] + 1
    if first + len(payloads) > _MOST_ID:
        raise StoreCorrupt(main_file_of(cast(sqlite3.Connection, connection)), NO_ID_LEFT)
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


# ---------------------------------------------------------------- the caller's own connection


def refuse_other_sqlite(connection: Any, copy: str) -> None:
    """Raise UsageError unless this is a connection of the store's own copy of SQLite (see `sqlite3.COPIES`)."""
    if sqlite3.copy_of(connection) == copy:
        return
    kind, module = type(connection), sqlite3.COPIES[copy].__name__
    found = f"{kind.__module__}.{kind.__qualname__}"
    if "sqlite" in found or "sqlcipher" in found:
        raise UsageError(
            f"connection= is a {found}, not a {module}.Connection; two copies of SQLite on one file in one process"
            " corrupt it"
        )
    raise UsageError(
        f"connection= is a {found}; give a connection of {module} to the store's file, or what SQLAlchemy or Django work"
        " with on such a connection"
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


class _Borrowed:
    """A cursor of the caller's connection, with the face of a connection."""

    __slots__ = ("IntegrityError", "execute", "executemany", "text_factory")

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self.execute, self.executemany = cursor.execute, cursor.executemany
        self.text_factory: Any = lenient
        self.IntegrityError: type[Exception] = cursor.connection.IntegrityError


def insert_on(connection: sqlite3.Connection, job: NewJob, now: Instant) -> Job:
    """Insert on the caller's connection, in its current transaction if any.

    Runs only the INSERT, but for a job with parents or in a batch: that takes several statements, and reading.
    """
    cursor = connection.cursor()
    cursor.row_factory = None
    text_factory, connection.text_factory = connection.text_factory, lenient
    try:
        if not job.after and job.batch_id is None:
            return insert(_Borrowed(cursor), job, now)
        with _all_or_nothing(connection, cursor):
            return insert(_Borrowed(cursor), job, now)
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

"""Stores jobs on an application's own connection, in its transaction. Effects: what that connection does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import pq
from psycopg.rows import tuple_row

from mpdispatch.clock import Instant
from mpdispatch.errors import UsageError
from mpdispatch.model import Job, NewJob
from mpdispatch.store.postgres.connection import OurCursor
from mpdispatch.store.postgres.dialect import OWN
from mpdispatch.store.postgres.translate import translated
from mpdispatch.store.postgres.wire import adapt
from mpdispatch.store.sql.candidates import as_json
from mpdispatch.store.sql.connection import Cursor
from mpdispatch.store.sql.inserts import insert, is_one_statement


class _Borrowed:
    """The caller's connection with the face of ours: its own settings of rows and types do not count."""

    IntegrityError: type[Exception] = psycopg.IntegrityError

    def __init__(self, raw: psycopg.Connection[Any], translate: Callable[[str], str]) -> None:
        self._raw, self._translate = raw, translate
        self.text_factory: Any = str

    def _cursor(self) -> OurCursor:
        cursor = OurCursor(self._raw, row_factory=tuple_row)
        adapt(cursor.adapters)
        return cursor

    def execute(self, sql: str, parameters: Any = (), /) -> Cursor:
        cursor = self._cursor()
        cursor.execute(self._translate(sql), parameters)
        return cursor

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Cursor:
        cursor = self._cursor()
        cursor.executemany(self._translate(sql), parameters)
        return cursor


def refuse_other(connection: Any, database: str) -> None:
    """Raise UsageError unless this is a connection of psycopg to a database of this name."""
    if not isinstance(connection, psycopg.Connection):
        kind = type(connection)
        raise UsageError(
            f"connection= is a {kind.__module__}.{kind.__qualname__}; give a psycopg.Connection to the store's database,"
            " or what SQLAlchemy or Django work with on such a connection"
        )
    if connection.closed:
        raise UsageError("connection= is closed")
    if database and connection.info.dbname != database:
        raise UsageError(
            f"connection= is open on database {connection.info.dbname}, the store is in {database}"
        )


def insert_on(
    connection: psycopg.Connection[Any],
    job: NewJob,
    now: Instant,
    translate: Callable[[str], str],
    location: str,
) -> Job:
    """Insert on the caller's connection, in its current transaction if any; without the store's lock.

    A job with parents keeps them from ending until the transaction ends.
    """
    borrowed = _Borrowed(connection, translate)
    try:
        with _all_or_nothing(connection, is_one_statement=is_one_statement(job)):
            if job.after:
                borrowed.execute(OWN["lock_parents"], (as_json(job.after),))
            return insert(borrowed, job, now)
    except psycopg.errors.UndefinedTable as error:
        raise UsageError(
            f"connection= is open on database {connection.info.dbname}, which does not hold the store {location}"
        ) from error
    except psycopg.Error as error:
        problem = translated(error, "connection=")
        if problem is error:
            raise
        raise problem from error


@contextmanager
def _all_or_nothing(connection: psycopg.Connection[Any], *, is_one_statement: bool) -> Iterator[None]:
    """Whatever is raised, nothing of this stays in the caller's transaction, which can go on.

    If there is none, one begins with the first statement: on a connection in autocommit it is committed here, else it
    is the caller's to commit.
    """
    is_idle = connection.info.transaction_status == pq.TransactionStatus.IDLE
    if is_idle and connection.autocommit:
        if is_one_statement:
            yield
        else:
            with connection.transaction():
                yield
        return
    connection.execute("SAVEPOINT mpdispatch_enqueue")
    try:
        yield
    except BaseException:
        if not connection.closed:
            connection.execute("ROLLBACK TO SAVEPOINT mpdispatch_enqueue")
            connection.execute("RELEASE SAVEPOINT mpdispatch_enqueue")
        raise
    connection.execute("RELEASE SAVEPOINT mpdispatch_enqueue")

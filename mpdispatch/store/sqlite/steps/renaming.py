"""Renames columns in a file whose owner may have made indexes, triggers and views of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from mpdispatch import sqlite3
from mpdispatch.errors import StoreCorrupt


@contextmanager
def writable_schema(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("PRAGMA writable_schema = 1")
    try:
        yield
    finally:
        connection.execute("PRAGMA writable_schema = RESET")


def rename_columns(
    connection: sqlite3.Connection, location: str, columns: Iterable[tuple[str, str, str]]
) -> None:
    """Rename columns, each a table, its old and its new name, also in what the file's owner has made of them.

    While the schema is writable, SQLite passes over a view or trigger that is broken already.

    Raises StoreCorrupt: SQLite cannot rename one.
    """
    try:
        with writable_schema(connection):
            for table, old, new in columns:
                connection.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")
    except sqlite3.ERRORS as error:
        if getattr(error, "sqlite_errorname", "") != "SQLITE_ERROR":
            raise
        raise StoreCorrupt(location, f"cannot be migrated: {error}") from error

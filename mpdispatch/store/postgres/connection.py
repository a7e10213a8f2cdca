"""What the modules of `store.sql` see of a connection to PostgreSQL. One thread at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import psycopg

from mpdispatch.store.postgres.wire import Wire
from mpdispatch.store.sql.connection import Cursor


class OurCursor(psycopg.Cursor[Any]):
    """As SQLite's: a statement that gives no rows has none to fetch."""

    def fetchone(self) -> Any:
        return None if self.description is None else super().fetchone()

    def fetchall(self) -> list[Any]:
        return [] if self.description is None else super().fetchall()

    @property
    def lastrowid(self) -> int | None:
        """The id that an INSERT … RETURNING id has returned."""
        row = self.fetchone()
        return None if row is None else int(row[0])


class PostgresConnection:
    """A `store.sql.connection.Connection`. `translate` makes a statement of the shared modules one of PostgreSQL's."""

    __slots__ = ("_raw", "_translate", "text_factory", "wire")

    IntegrityError: type[Exception] = psycopg.IntegrityError

    def __init__(self, wire: Wire, translate: Callable[[str], str]) -> None:
        self.wire, self._raw, self._translate = wire, wire.raw, translate
        self.text_factory: Any = str
        """Of no effect: text is always UTF-8."""

    def execute(self, sql: str, parameters: Any = (), /) -> Cursor:
        cursor = OurCursor(self._raw)
        cursor.execute(self._translate(sql), parameters)
        return cursor

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Cursor:
        cursor = OurCursor(self._raw)
        cursor.executemany(self._translate(sql), parameters)
        return cursor

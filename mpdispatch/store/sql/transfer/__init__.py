"""Moves all rows of an SQL store to another store, or from one: what `store.transfer.Transfer` promises.

The tables travel one to one. A frozen store refuses changes by triggers, which a backend makes in its own way: they let a
transaction write that has put the row WRITES into `mpdispatch_meta` and removes it before it commits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mpdispatch.errors import StoreError
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.mending import texts
from mpdispatch.store.sql.named import Queries
from mpdispatch.store.sql.sessions import ClientSessions
from mpdispatch.store.tables import TABLES, Key, Row, Table
from mpdispatch.store.transfer import Incoming, Outgoing, Standing

T = TypeVar("T")

OUTGOING, INCOMING, WRITES = "moved_to", "moved_from", "move_writes"
"""Keys of `mpdispatch_meta`."""
POINT = "move"
"""Begins the names of the failpoints."""

_HERE = Path(__file__).parent
MARKS = Queries(_HERE / "marks.sql")


def _queries_of(table: Table) -> Queries:
    lists = {
        "table": table.name,
        "columns": ", ".join(table.columns),
        "values": ", ".join("?" for _ in table.columns),
        "key": ", ".join(table.key),
        "key_values": ", ".join("?" for _ in table.key),
    }
    return Queries(_HERE / "rows.sql", lists=lists)


ROWS: Mapping[str, Queries] = {table.name: _queries_of(table) for table in TABLES}
"""The statements of each table: a backend that translates texts translates these, and MARKS."""


class SQLTransfer(ABC):
    """Over the sessions of a store's clients. `location` names the store in errors, without a password."""

    def __init__(self, sessions: ClientSessions, location: str) -> None:
        self._sessions, self._location = sessions, location

    def tables(self) -> Sequence[Table]:
        return TABLES

    def standing(self) -> Standing:
        def work(connection: Connection) -> Standing:
            return Standing(
                outgoing=_mark(connection, OUTGOING, Outgoing),
                incoming=_mark(connection, INCOMING, Incoming),
                rows={name: _one(connection, queries["count"]) for name, queries in ROWS.items()},
                running=_one(connection, MARKS["running"]),
            )

        return self._sessions.read(work)

    def rows(self, table: Table, after: Key, limit: int) -> list[Row]:
        text = ROWS[table.name]["rows"]
        found: list[Row] = self._sessions.read(lambda c: c.execute(text, (*after, limit)).fetchall())
        return [_readable(table, row) if bytes in map(type, row) else row for row in found]

    def last_ids(self) -> Mapping[str, int]:
        return self._sessions.read(self._last_ids)

    # -- the source -----------------------------------------------------------------------------

    def freeze(self, outgoing: Outgoing, idle: Collection[int] = ()) -> None:
        def work(connection: Connection) -> None:
            if running := _one(connection, MARKS["running"]):
                raise StoreError(self._location, f"has {running:,} running jobs; run this again")
            for owner, host, pid in connection.execute(MARKS["registered"]).fetchall():
                if owner not in idle:
                    raise StoreError(
                        self._location, f"has a supervisor, process {pid} on {texts(host)}; stop it"
                    )
            self._allow_changes(connection)
            connection.execute(MARKS["unregister_all"])
            connection.execute(MARKS["mark"], (OUTGOING, _json(outgoing)))
            self._refuse_changes(connection, outgoing.detail)

        self._write(work)

    def unfreeze(self) -> None:
        def work(connection: Connection) -> None:
            if _mark(connection, OUTGOING, Outgoing) is not None:
                connection.execute(MARKS["unmark"], (OUTGOING,))
                self._allow_changes(connection)

        self._write(work)

    # -- the target -----------------------------------------------------------------------------

    def fitting(self, table: Table, rows: list[Row]) -> list[Row]:
        return rows

    def begin(self, incoming: Incoming) -> None:
        def work(connection: Connection) -> None:
            filled = [name for name, each in ROWS.items() if _one(connection, each["is_filled"])]
            if filled:
                raise StoreError(self._location, f"is not empty: there are rows in {', '.join(filled)}")
            self._allow_changes(connection)
            connection.execute(MARKS["mark"], (INCOMING, _json(incoming)))
            self._refuse_changes(connection, incoming.detail)

        self._write(work)

    def write(self, table: Table, rows: Sequence[Row], before: Incoming, now: Incoming) -> None:
        text = ROWS[table.name]["fill"]

        def work(connection: Connection) -> None:
            self._replace_mark(connection, before, now)
            if rows:
                connection.execute(MARKS["mark"], (WRITES, now.move))
                try:
                    connection.executemany(text, rows)
                except connection.IntegrityError as error:
                    raise StoreError(self._location, _refused(table, error)) from error
                connection.execute(MARKS["unmark"], (WRITES,))

        self._write(work)

    def finish(self, last_ids: Mapping[str, int], before: Incoming, now: Incoming) -> None:
        def work(connection: Connection) -> None:
            self._replace_mark(connection, before, now)
            self._allow_changes(connection)
            self._never_give_again(connection, last_ids)

        self._write(work)

    def _replace_mark(self, connection: Connection, before: Incoming, now: Incoming) -> None:
        values = (_json(now), INCOMING, _json(before))
        if connection.execute(MARKS["replace_mark"], values).rowcount != 1:
            raise StoreError(self._location, "another process moves the same store, or has moved it, meanwhile")

    def _write(self, work: Callable[[Connection], T]) -> T:
        return self._sessions.write(work, POINT)

    # -- what a backend does in its own way -------------------------------------------------------

    @abstractmethod
    def _refuse_changes(self, connection: Connection, detail: str) -> None:
        """From the commit on, all changes of rows in `TABLES` and of registrations raise StoreMoved with this detail.

        But for those of a transaction that has put the row WRITES into `mpdispatch_meta`.
        """

    @abstractmethod
    def _allow_changes(self, connection: Connection) -> None:
        """Undo that, if it was done."""

    @abstractmethod
    def _last_ids(self, connection: Connection) -> Mapping[str, int]:
        """See `Transfer.last_ids`."""

    @abstractmethod
    def _never_give_again(self, connection: Connection, last_ids: Mapping[str, int]) -> None:
        """From now on new ids are higher than these, and than those of all rows."""


def _refused(table: Table, error: Exception) -> str:
    return (
        f"refuses a row of the table {table.name} ({error}): another program has written it to the old store, where"
        " `mpdispatch doctor` names rows that cannot be read; repair or delete it there, after --abandon"
    )


def _json(mark: Outgoing | Incoming) -> str:
    return msgspec.json.encode(mark).decode()


def _mark(connection: Connection, key: str, kind: type[T]) -> T | None:
    row = connection.execute(MARKS["mark_of"], (key,)).fetchone()
    return None if row is None else msgspec.json.decode(row[0], type=kind)


def _one(connection: Connection, text: str) -> Any:
    return connection.execute(text).fetchone()[0]


def _readable(table: Table, row: Row) -> Row:
    """The row with text in place of bytes, but for JSON: as it is shown, when another program has spoilt it."""
    return tuple(
        texts(value) if isinstance(value, bytes) and column not in table.json else value
        for column, value in zip(table.columns, row, strict=True)
    )

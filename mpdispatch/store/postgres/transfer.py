"""Moves a store on PostgreSQL: how its tables refuse changes, and which ids their sequences have given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mpdispatch.store.postgres.sessions import ClientSessions
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.named import Queries
from mpdispatch.store.sql.transfer import MARKS, SQLTransfer
from mpdispatch.store.tables import COUNTED, TABLES, Row, Table, Value

_OWN = Queries(Path(__file__).with_suffix(".sql"))
_GUARDED = (*(table.name for table in TABLES), "supervisors")
_FROZEN = "frozen"
"""Key of `mpdispatch_meta`: what the triggers say."""
_NUL, _SHOWN_NUL = "\0", "\u2400"


class PostgresTransfer(SQLTransfer):
    """See `store.transfer.Transfer`."""

    def __init__(self, sessions: ClientSessions, location: str, quoted_schema: str) -> None:
        super().__init__(sessions, location)
        self._schema = quoted_schema

    def fitting(self, table: Table, rows: list[Row]) -> list[Row]:
        """PostgreSQL has no text with U+0000, and none that is not UTF-8."""
        return [tuple(map(_fitting, row)) for row in rows]

    def _refuse_changes(self, connection: Connection, detail: str) -> None:
        connection.execute(MARKS["mark"], (_FROZEN, detail))
        connection.execute(self._text("guard_function"))
        for name in _GUARDED:
            connection.execute(self._text("guard", name))

    def _allow_changes(self, connection: Connection) -> None:
        connection.execute(self._text("drop_guard_function"))
        connection.execute(MARKS["unmark"], (_FROZEN,))

    def _last_ids(self, connection: Connection) -> Mapping[str, int]:
        found = {name: connection.execute(self._text("last_id", name)).fetchone()[0] for name in COUNTED}
        (last_job_id,) = connection.execute(self._text("last_job_id")).fetchone()
        return {**found, "jobs": max(found["jobs"], last_job_id)}

    def _never_give_again(self, connection: Connection, last_ids: Mapping[str, int]) -> None:
        for name, last in last_ids.items():
            if last:
                connection.execute(self._text("raise_last_id", name), (last,)).fetchone()

    def _text(self, query: str, name: str = "") -> str:
        table = f"mpdispatch_{name}"
        literal = f"{self._schema}.{table}".replace("'", "''")
        text = _OWN[query].replace("{schema}", self._schema)
        return text.replace("{table}", table).replace("{literal}", literal)


def _fitting(value: Value) -> Value:
    """
    >>> _fitting("a\\0b"), _fitting(b"\\xff"), _fitting(7)
    ('a␀b', '\ufffd', 7)
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value.replace(_NUL, _SHOWN_NUL) if isinstance(value, str) and _NUL in value else value

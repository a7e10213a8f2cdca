"""Moves an SQLite store: how its file refuses changes, and which ids it has given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.queries import QUERIES as SHARED
from mpdispatch.store.sql.transfer import WRITES, SQLTransfer
from mpdispatch.store.sqlite.queries import QUERIES
from mpdispatch.store.sqlite.translate import MOVED
from mpdispatch.store.tables import COUNTED, TABLES

_GUARDED = (*(table.name for table in TABLES), "supervisors")

_GUARD = """
CREATE TRIGGER mpdispatch_frozen_{table}_{event} BEFORE {event} ON mpdispatch_{table}
WHEN NOT EXISTS (SELECT 1 FROM mpdispatch_meta WHERE key = '{key}')
BEGIN SELECT RAISE(ABORT, '{text}'); END
"""


class SQLiteTransfer(SQLTransfer):
    """See `store.transfer.Transfer`."""

    def _refuse_changes(self, connection: Connection, detail: str) -> None:
        for statement in _guards(detail):
            connection.execute(statement)

    def _allow_changes(self, connection: Connection) -> None:
        for (name,) in connection.execute(QUERIES["guards"]).fetchall():
            connection.execute(f"DROP TRIGGER {name}")

    def _last_ids(self, connection: Connection) -> Mapping[str, int]:
        given = dict(connection.execute(QUERIES["given_ids"]).fetchall())
        given["mpdispatch_jobs"] = connection.execute(QUERIES["last_job_id"]).fetchone()[0]
        return {name: given.get(f"mpdispatch_{name}", 0) for name in COUNTED}

    def _never_give_again(self, connection: Connection, last_ids: Mapping[str, int]) -> None:
        for name, last in last_ids.items():
            if not last:
                continue
            if name == "jobs":
                connection.execute(SHARED["prune_up_to"], (str(last),))
            elif not connection.execute(QUERIES["raise_given_id"], (last, f"mpdispatch_{name}")).rowcount:
                connection.execute(QUERIES["set_given_id"], (f"mpdispatch_{name}", last))


def _guards(detail: str) -> Iterator[str]:
    """Triggers that refuse every change, also one by an older mpdispatch or another program."""
    text = (MOVED + detail).replace("'", "''")
    for table in _GUARDED:
        for event in ("insert", "update", "delete"):
            yield _GUARD.format(table=table, event=event, key=WRITES, text=text)

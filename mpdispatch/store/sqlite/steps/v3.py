"""Version 3: STRICT tables; no CHECK names a state, a cause or a stream; ended jobs are counted by queue from an index.

The columns `line` and `lease_until_us` become `lane` and `lease_until_wall_us`. So a running supervisor of version 2
cannot go on: its next look at the store fails, it ends its workers and exits with 70, and the next supervisor takes its
jobs over. Were it stopped meanwhile, it could neither claim nor renew; an outcome it records is guarded as ever.

The definitions in sqlite_schema are replaced (`PRAGMA writable_schema`); rows stay where they are. SQLite stores a row
of a STRICT table like any other (https://www.sqlite.org/stricttables.html), so this is safe if all rows conform: those
that do not are converted, and quick_check proves it before the commit. Copying the tables instead fills the disk, and
drops triggers that the file's owner has put on them. Measured with a million jobs (180 MB; SQLite 3.40):

                    CPU      file afterwards    log at its largest
    copied          3.2 s    321 MB             323 MB
    replaced        2.2 s    191 MB              27 MB (the index of ended jobs)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

from mpdispatch import sqlite3
from mpdispatch.errors import StoreCorrupt
from mpdispatch.model import UNREADABLE, ErrorInfo
from mpdispatch.store.sql.rows import encode_error, stored_json
from mpdispatch.store.sql.text import lenient_text
from mpdispatch.store.sqlite.queries import SCHEMA, statements
from mpdispatch.store.sqlite.steps.renaming import rename_columns, writable_schema
from mpdispatch.store.sqlite.unreadable import INSERT_DEAD_LETTER

_RENAMED = (
    ("mpdispatch_jobs", "line", "lane"),
    ("mpdispatch_supervisors", "lease_until_us", "lease_until_wall_us"),
)
_ENDED = ("completed", "failed", "cancelled")
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
# What a CHECK demands.
_RULES = {
    "mpdispatch_jobs": "attempt BETWEEN 0 AND starts AND max_retries >= 0"
    " AND (duration_us IS NULL OR completed_at_us IS NOT NULL) AND (blocked_reason IS NULL OR lane IS NOT NULL)"
    " AND (owner IS NOT NULL) + (lane IS NOT NULL) + (completed_at_us IS NOT NULL) = 1",
    "mpdispatch_queues": "is_paused IN (0, 1)",
}


class _Column(NamedTuple):
    name: str
    kind: str
    is_required: bool

    def conforms(self) -> str:
        """A condition on the value that stands in it."""
        if self.kind == "ANY":
            # Not IS NOT NULL, which SQLite takes for true in a column that is declared so.
            return f"typeof({self.name}) <> 'null'" if self.is_required else "1"
        null = "" if self.is_required else ", 'null'"
        return f"typeof({self.name}) IN ('{self.kind.lower()}'{null})"

    def converted(self, value: Any) -> tuple[Any, bool]:
        """The nearest value that it may hold, and whether that is the same one."""
        if value is None:
            return (None, True) if not self.is_required else (0 if self.kind == "INTEGER" else "", False)
        if self.kind == "ANY" or type(value) is {"INTEGER": int, "TEXT": str}[self.kind]:
            return value, True
        if self.kind == "TEXT":
            return (value, False) if isinstance(value, bytes) else (str(value), True)
        try:
            number = int(value)
        except (ValueError, OverflowError):
            return (0 if self.is_required else None), False
        nearest = min(max(number, _LEAST), _MOST)
        return nearest, nearest == (value if isinstance(value, float) else number)


class _Table(NamedTuple):
    name: str
    columns: list[_Column]
    faulty: list[dict[str, Any]]
    """Rows that do not conform."""


def run(connection: sqlite3.Connection, location: str) -> None:
    """Raises StoreCorrupt."""
    with closing(type(connection)(":memory:")) as model:
        for statement in statements(SCHEMA):
            model.execute(statement)
        found = model.execute("SELECT name, type, sql FROM sqlite_master WHERE sql IS NOT NULL")
        definitions = {(name, kind): sql for name, kind, sql in found}
        rename_columns(connection, location, _RENAMED)
        with lenient_text(connection):
            tables = list(_tables(connection, model, location))
    present = set(connection.execute("SELECT name, type, sql FROM sqlite_master"))
    stale = {key: sql for key, sql in definitions.items() if key[1] != "table" and (*key, sql) not in present}
    for name, kind in stale:
        connection.execute(f"DROP {kind} IF EXISTS {name}")
    with writable_schema(connection):
        connection.executemany(
            "UPDATE sqlite_master SET sql = ? WHERE type = 'table' AND name = ?",
            [(definitions[table.name, "table"], table.name) for table in tables],
        )
        (version,) = connection.execute("PRAGMA schema_version").fetchone()
        connection.execute(f"PRAGMA schema_version = {version + 1}")  # for other connections
    for table in tables:
        _insert(connection, table)
        (problem,) = connection.execute(f"PRAGMA quick_check({table.name})").fetchone()
        if problem != "ok":
            raise StoreCorrupt(location, f"cannot be migrated: {problem}")
    for sql in stale.values():
        connection.execute(sql)


def _tables(connection: sqlite3.Connection, model: sqlite3.Connection, location: str) -> Iterator[_Table]:
    """Our tables, with the rows that do not conform, which are deleted."""
    tables = model.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'mpdispatch_*'")
    for (name,) in tables.fetchall():
        columns = [_Column(row[1], row[2], bool(row[3])) for row in model.execute(f"PRAGMA table_info({name})")]
        present = [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
        names = [column.name for column in columns]
        if present != names:
            raise StoreCorrupt(location, f"cannot be migrated: the columns of {name} are {', '.join(present)}")
        rules = [*(column.conforms() for column in columns), _RULES.get(name, "1")]
        where = f"FROM {name} WHERE NOT ({' AND '.join(rules)})"
        found = connection.execute(f"SELECT {', '.join(names)} {where}").fetchall()
        if found:
            connection.execute(f"DELETE {where}")
        yield _Table(name, columns, [dict(zip(names, row, strict=True)) for row in found])


def _insert(connection: sqlite3.Connection, table: _Table) -> None:
    """Insert the rows that did not conform, converted. Of two that now have one key, the first one stays."""
    values = ", ".join("CAST(? AS TEXT)" if column.kind == "TEXT" else "?" for column in table.columns)
    insert = f"INSERT OR IGNORE INTO {table.name} VALUES ({values})"  # noqa: S608 - names of our own
    for row in table.faulty:
        faults = list[str]()
        for column in table.columns:
            value, is_same = column.converted(row[column.name])
            if not is_same:
                faults.append(f"column {column.name} holds {_shown(row[column.name])}, not {column.kind}")
            row[column.name] = value
        match table.name:
            case "mpdispatch_jobs":
                _insert_job(connection, insert, row, faults)
            case "mpdispatch_queues":
                row["is_paused"] = int(row["is_paused"] != 0)
                connection.execute(insert, tuple(row.values()))
            case "mpdispatch_supervisors":
                pass  # nobody can say whether it lives: its jobs are taken over
            case _:
                connection.execute(insert, tuple(row.values()))


def _shown(value: object) -> str:
    """
    >>> _shown("high"), _shown(1.5), _shown(None), _shown(b"\\xff")
    ("TEXT 'high'", 'REAL 1.5', 'NULL', "BLOB b'\\\\xff'")
    """
    if value is None:
        return "NULL"
    kind = {str: "TEXT", float: "REAL", bytes: "BLOB"}.get(type(value), "INTEGER")
    return f"{kind} {value[:40] if isinstance(value, str | bytes) else value!r}"


def _insert_job(connection: sqlite3.Connection, insert: str, row: dict[str, Any], faults: list[str]) -> None:
    """Insert a job; one that lost something is ended, unless it had ended, and its last error says why."""
    faults += _contradictions(row)
    if faults:
        has_ended = row["state"] in _ENDED
        before = "" if row["last_error"] is None else f"; its last error was {row['last_error'][:1000]!r}"
        error = ErrorInfo(type=UNREADABLE, message=f"job {row['id']}: {'; '.join(faults)}{before}")
        now = time.time_ns() // 1000
        starts = max(row["starts"], 0)
        row |= {
            "state": row["state"] if has_ended else "failed",
            "lane": None,
            "owner": None,
            "blocked_reason": None,
            "cancel_requested_us": None,
            "completed_at_us": now
            if row["completed_at_us"] is None or not has_ended
            else row["completed_at_us"],
            "duration_us": row["duration_us"] if row["state"] == "completed" else None,
            "starts": starts,
            "attempt": min(max(row["attempt"], 0), starts),
            "max_retries": max(row["max_retries"], 0),
            "last_error": stored_json(encode_error(error)),
        }
    if connection.execute(insert, tuple(row.values())).rowcount == 0:
        # Another job has the key that its own became.
        row |= {"idempotency_key": None, "retried_from": None}
        connection.execute(insert, tuple(row.values()))
    if row["state"] == "failed" and faults:
        connection.execute(INSERT_DEAD_LETTER, (row["completed_at_us"], row["id"]))


def _contradictions(row: Mapping[str, Any]) -> Iterator[str]:
    """Why a job breaks a rule that is not about one type."""
    if not 0 <= row["attempt"] <= row["starts"]:
        yield f"column attempt holds {row['attempt']}, and starts {row['starts']}"
    if row["max_retries"] < 0:
        yield f"column max_retries holds {row['max_retries']}"
    if row["duration_us"] is not None and row["completed_at_us"] is None:
        yield f"column duration_us holds {row['duration_us']}, but it has not completed"
    if row["blocked_reason"] is not None and row["lane"] is None:
        yield f"column blocked_reason holds {row['blocked_reason'][:40]!r}, but it is in no lane"
    places = [row[name] for name in ("owner", "lane", "completed_at_us")]
    if sum(each is not None for each in places) != 1:
        yield "columns owner, lane and completed_at_us hold {}, {} and {}: one of them says where it is".format(
            *places
        )

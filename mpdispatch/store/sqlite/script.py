"""The SQL of a migration, found out by running it in memory on the tables of a store without their rows."""

from __future__ import annotations

import re

from mpdispatch import sqlite3
from mpdispatch.store.sqlite import schema

_CHANGES = re.compile(
    r"\s*(PRAGMA writable_schema|CREATE|ALTER|DROP|INSERT|UPDATE|DELETE|REPLACE)\b", re.IGNORECASE
)


def of_new_store(location: str) -> str:
    """What makes a store where there is none."""
    return _run([], 0, location)


def of_upgrade(connection: sqlite3.Connection, found: int, location: str) -> str:
    """What brings the store of this connection from the version found (0: an empty file) to ours. Reads no job."""
    made = [
        row[0]
        for row in connection.execute(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name LIKE 'mpdispatch@_%' ESCAPE '@'"
            # What stands on a table, after it.
            " ORDER BY type <> 'table', rowid"
        )
    ]
    return _run(made, found, location)


def _run(made: list[str], found: int, location: str) -> str:
    memory = sqlite3.module.connect(":memory:", isolation_level=None)
    try:
        for statement in made:
            memory.execute(statement)
        ran = list[str]()
        memory.execute("BEGIN IMMEDIATE")
        memory.set_trace_callback(ran.append)
        schema.apply(memory, found, location, is_new_file=False)
        memory.set_trace_callback(None)
    finally:
        memory.close()
    return "".join(f"{each.strip().rstrip(';')};\n\n" for each in ran if _CHANGES.match(each))

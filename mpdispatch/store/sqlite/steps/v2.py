"""Version 2: a supervisor's row has a token that finds its workers if its start journal is lost."""

from __future__ import annotations

from mpdispatch import sqlite3


def run(connection: sqlite3.Connection, _: str) -> None:
    """With a constant default, SQLite rewrites no row."""
    connection.execute("ALTER TABLE mpdispatch_supervisors ADD COLUMN token TEXT NOT NULL DEFAULT ''")

"""Version 4: cron entries, jobs that expire, and dead letters that say when they were replayed or purged."""

from __future__ import annotations

from pathlib import Path

from mpdispatch import sqlite3
from mpdispatch.store.sqlite.queries import statements


def run(connection: sqlite3.Connection, _: str) -> None:
    """Rewrites no row of a job, as its new columns are NULL."""
    for statement in statements(Path(__file__).with_suffix(".sql")):
        connection.execute(statement)

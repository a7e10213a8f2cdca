"""Version 5: batches are rows, and jobs may wait for others."""

from __future__ import annotations

from pathlib import Path

from mpdispatch import sqlite3
from mpdispatch.store.sqlite.queries import statements


def run(connection: sqlite3.Connection, location: str) -> None:
    """Rewrites no row of a job, but reads all of them to count the members of batches."""
    for statement in statements(Path(__file__).with_suffix(".sql")):
        connection.execute(statement)

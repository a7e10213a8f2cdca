"""Version 4: cron entries, jobs that expire, and dead letters that say when they were replayed or purged."""

from __future__ import annotations

from pathlib import Path

from mpdispatch import sqlite3
from mpdispatch.store.sqlite.queries import statements
from mpdispatch.store.sqlite.steps.renaming import rename_columns

# When it was replayed or purged: a purged letter has no replayed_as, and is shown nowhere. From then on counts the time
# until its job may be pruned. An older mpdispatch that still runs does not find the column, so it deletes no letter.
_RENAMED = (("mpdispatch_dead_letters", "replayed_at_us", "closed_at_us"),)


def run(connection: sqlite3.Connection, location: str) -> None:
    """Rewrites no row of a job, as its new columns are NULL."""
    rename_columns(connection, location, _RENAMED)
    for statement in statements(Path(__file__).with_suffix(".sql")):
        connection.execute(statement)

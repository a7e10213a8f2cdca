"""The steps that bring a store of an older schema version to the next version, one by one.

To add a version: write its step, add it to STEPS, and leave the earlier steps and `schema.sql` as they are: a new file
begins with `schema.sql` and takes the steps after it. Keep a dump of a file of the version before for the tests. All
steps of one migration run in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mpdispatch import sqlite3


class Step(NamedTuple):
    """From the version before to `version`. A file records it by its name."""

    version: int
    name: str
    run: Callable[[sqlite3.Connection], None]


def _token(connection: sqlite3.Connection) -> None:
    """Finds the workers of a supervisor whose start journal is lost.

    With a constant default, SQLite rewrites no row, and a running supervisor of version 1 can still write its own columns.
    """
    connection.execute("ALTER TABLE mpdispatch_supervisors ADD COLUMN token TEXT NOT NULL DEFAULT ''")


def _lanes(connection: sqlite3.Connection) -> None:
    """Rename columns. A running supervisor of version 2 can neither claim nor renew its lease, which lapses."""
    connection.execute("ALTER TABLE mpdispatch_jobs RENAME COLUMN line TO lane")
    connection.execute("ALTER TABLE mpdispatch_supervisors RENAME COLUMN lease_until_us TO lease_until_wall_us")


BASE = 3
"""The version of `schema.sql`."""
STEPS = (Step(2, "v2_token", _token), Step(3, "v3_strict", _lanes))

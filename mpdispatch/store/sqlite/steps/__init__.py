"""The steps that bring a store of an older schema version to the next version, one module each.

To add a version: write its step, add it to `steps`, raise LATEST, and leave the earlier steps and `schema.sql` as they
are: a new file begins with `schema.sql` and takes the steps after it. Keep a dump of a file of the version before for
the tests. All steps of one migration run in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mpdispatch import sqlite3

__all__ = ["BASE", "LATEST", "Step", "steps"]


class Step(NamedTuple):
    """From the version before to `version`. A file records it by its name."""

    version: int
    name: str
    run: Callable[[sqlite3.Connection, str], None]
    """Gets the store's location too, for errors."""


BASE = 3
"""The version of `schema.sql`."""
LATEST = 5
"""The version after all steps."""


def steps() -> tuple[Step, ...]:
    """All steps in order. Loaded when a store is created or migrated: no other use of a store pays for them."""
    from mpdispatch.store.sqlite.steps import v2, v3, v4, v5

    return (
        Step(2, "v2_token", v2.run),
        Step(3, "v3_strict", v3.run),
        Step(4, "v4_time", v4.run),
        Step(5, "v5_batches", v5.run),
    )

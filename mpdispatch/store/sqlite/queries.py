"""The statements that only the SQLite store has, read once; and its schema. `store/sql/queries.py` has all others."""

from __future__ import annotations

from pathlib import Path

from mpdispatch import sqlite3
from mpdispatch.store.sql.columns import LISTS
from mpdispatch.store.sql.named import Queries

_HERE = Path(__file__).parent
SCHEMA = _HERE / "schema.sql"
# Whether the columns that say where a job is contradict its state, or each other.
_MISPLACED = """
CASE state
    WHEN 'running' THEN owner IS NULL
    WHEN 'pending' THEN lane IS NOT 1 AND lane IS NOT 3 AND lane IS NOT 4
    WHEN 'scheduled' THEN lane IS NOT 2
    WHEN 'retrying' THEN lane IS NOT 2
    WHEN 'completed' THEN completed_at_us IS NULL
    WHEN 'failed' THEN completed_at_us IS NULL
    WHEN 'cancelled' THEN completed_at_us IS NULL
    ELSE 1
END
OR (owner IS NOT NULL) + (lane IS NOT NULL) + (completed_at_us IS NOT NULL) <> 1
OR (blocked_reason IS NOT NULL) <> (lane IS 3)
OR (duration_us IS NOT NULL AND state <> 'completed')
"""
QUERIES = Queries(
    *(file for file in sorted(_HERE.glob("*.sql")) if file != SCHEMA),
    lists={**LISTS, "misplaced": f"({_MISPLACED.strip()})"},
)


def statements(file: Path) -> list[str]:
    """The statements of a schema file, one by one (executescript would commit)."""
    found, current = list[str](), ""
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("--"):
            current += line + "\n"
        if sqlite3.module.complete_statement(current):
            if current.strip():
                found.append(current.strip())
            current = ""
    return found

"""The SQLite store's statements, read once."""

from __future__ import annotations

from pathlib import Path

from mpdispatch import sqlite3
from mpdispatch.store.sql import Queries
from mpdispatch.store.sqlite.columns import LISTS

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
# Whether the end of the job j is yet to be seen by a decision about a cron entry: the job is not pruned. Nobody decides
# about an entry that is disabled, an orphan or gone.
_HAS_OPEN_FIRING = """
EXISTS (
    SELECT 1 FROM mpdispatch_cron_slots AS s CROSS JOIN mpdispatch_crons AS c ON c.id = s.cron_id
    WHERE s.job_id = j.id AND s.is_open = 1 AND c.is_enabled AND NOT c.is_orphan
)
"""
_WAITS_FOR_PARENTS = """
+lane = 4 AND +state = 'pending' AND +owner IS NULL AND +completed_at_us IS NULL AND blocked_reason IS NULL
"""
# Whether a job that has not ended has j as a parent, and may read its result.
_HAS_DEPENDENT = """
EXISTS (
    SELECT 1 FROM mpdispatch_parents AS p CROSS JOIN mpdispatch_jobs AS d ON d.id = p.job_id
    WHERE p.parent_id = j.id AND d.completed_at_us IS NULL
)
"""
QUERIES = Queries(
    *(file for file in sorted(_HERE.glob("*.sql")) if file != SCHEMA),
    lists={
        **LISTS,
        "misplaced": f"({_MISPLACED.strip()})",
        "has_open_firing": _HAS_OPEN_FIRING.strip(),
        "has_dependent": _HAS_DEPENDENT.strip(),
        "waits_for_parents": _WAITS_FOR_PARENTS.strip(),
    },
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

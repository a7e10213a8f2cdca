"""The statements that all SQL stores share, read once. In SQLite's dialect."""

from __future__ import annotations

from pathlib import Path

from mpdispatch.store.sql.columns import LISTS
from mpdispatch.store.sql.named import Queries

# Whether the end of the job j is yet to be seen by a decision about a cron entry: the job is not pruned. Nobody decides
# about an entry that is disabled, an orphan or gone.
_HAS_OPEN_FIRING = """
EXISTS (
    SELECT 1 FROM mpdispatch_cron_slots AS s CROSS JOIN mpdispatch_crons AS c ON c.id = s.cron_id
    WHERE s.job_id = j.id AND s.is_open = 1 AND c.is_enabled = 1 AND c.is_orphan = 0
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
    *sorted(Path(__file__).parent.glob("*.sql")),
    lists={
        **LISTS,
        "has_open_firing": _HAS_OPEN_FIRING.strip(),
        "has_dependent": _HAS_DEPENDENT.strip(),
        "waits_for_parents": _WAITS_FOR_PARENTS.strip(),
    },
)

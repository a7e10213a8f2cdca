"""Notices jobs that wait in a store without a supervisor. Reads only."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from mpdispatch.model import Job, JobState
from mpdispatch.store.contract import Store
from mpdispatch.store.filters import JobFilter

_GRACE_S = 10.0
"""A supervisor that starts, or takes over from another, needs some seconds."""


class Attendance:
    """Remembers for how long this process has seen a store without a supervisor."""

    def __init__(self) -> None:
        self._alone_since_s: float | None = None

    def trouble(self, store: Store, living: int) -> str | None:
        """The fault if jobs wait and no supervisor lives. Three small reads at most.

        It is said at once if one has died, else once that has lasted for 10 s.
        """
        job = None if living else _waiting(store)
        if job is None:
            self._alone_since_s = None
            return None
        now_s = time.monotonic()
        self._alone_since_s = now_s if self._alone_since_s is None else self._alone_since_s
        waited_s = (datetime.now(UTC) - max(job.created_at, job.run_at)).total_seconds()
        if store.supervisors() or max(now_s - self._alone_since_s, waited_s) >= _GRACE_S:
            return "no supervisor is running, and jobs wait: mpdispatch supervise APP"
        return None


def _waiting(store: Store) -> Job | None:
    """The newest job that a supervisor could run, or was running."""
    for state in (JobState.PENDING, JobState.RUNNING):
        for job in store.list_jobs(JobFilter(state=state), limit=1, cursor=None).items:
            return job
    return None

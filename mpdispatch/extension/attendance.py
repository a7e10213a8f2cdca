"""Whether jobs wait in a store that nobody supervises. Reads only."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from mpdispatch.model import Job, JobState
from mpdispatch.store.contract import JobFilter, Store

__all__ = ["Attendance"]

_GRACE_S = 10.0
"""A supervisor that starts, or takes over from one that has stopped, is there within seconds."""


class Attendance:
    """How long a store has been without a supervisor, as far as this process has seen."""

    def __init__(self) -> None:
        self._alone_since_s: float | None = None

    def trouble(self, store: Store, living: int) -> str | None:
        """What is wrong: jobs wait, and of the supervisors none lives. Three small reads at most.

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
    """The newest job that a supervisor would run, or was running."""
    for state in (JobState.PENDING, JobState.RUNNING):
        for job in store.list_jobs(JobFilter(state=state), limit=1, cursor=None).items:
            return job
    return None

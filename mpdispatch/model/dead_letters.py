"""A job that reached `failed`, kept until somebody replays or purges it. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mpdispatch.model.job import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """The failed `job`, and whether it was enqueued again. Times are aware UTC datetimes."""

    id: int
    """The job's own id: a job fails once, so one number names both."""
    job: Job
    """As it ended: arguments, attempts, last error."""
    failed_at: datetime
    replayed_at: datetime | None
    """When it was replayed, by `replay` or by `retry` of the job; None: never."""
    replayed_as: int | None
    """The job it was replayed as."""

    @property
    def name(self) -> str:
        return self.job.name

    @property
    def queue(self) -> str:
        return self.job.queue

"""What commands and pages show of a store: supervisors, their workers, findings of the doctor. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """A living worker process."""

    pid: int
    job_id: int | None
    """The job it runs now; None: it is idle."""
    job_name: str | None
    since: datetime | None
    """When that job's handler was called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorStatus:
    """A registered supervisor, dead or alive. Times are aware UTC datetimes."""

    id: int
    host: str
    pid: int
    state: str
    """`alive`; `dead`: its process is gone; `expired`: it has not renewed its lease in time."""
    app: str
    queues: tuple[str, ...]
    concurrency: int
    version: str
    started_at: datetime
    heartbeat_at: datetime
    jobs: int
    """Jobs it has claimed and not finished."""
    workers: tuple[WorkerStatus, ...]
    """Workers are visible on their own host only; elsewhere this is empty."""

    @property
    def is_alive(self) -> bool:
        return self.state == "alive"


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing needs doing."""
    WARNING = "warning"
    """Something needs doing."""
    ERROR = "error"
    """Something is broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check, and what to do about it."""

    check: str
    level: Level
    message: str
    remedy: str | None = None
    """None: nothing to do."""

    @property
    def needs_doing(self) -> bool:
        return self.level in (Level.WARNING, Level.ERROR)

"""A supervisor as its peers see it and as commands and pages show it; findings of the doctor. Values only."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec


class NewSupervisor(msgspec.Struct, frozen=True, kw_only=True):
    """What a supervisor registers itself with."""

    host: str
    machine_id: str
    boot_id: str
    pid: int
    pid_start: int
    pid_namespace: str
    queues: tuple[str, ...]
    concurrency: int
    app: str
    """The reference of its app; and its pool, if that is a cluster's (see `policy.pools.pool_in`)."""
    version: str
    token: str = ""
    """The tags in the environment of its workers begin with it; a rescuer finds them by it. It is never shown. Empty: it
    was registered under schema version 1."""


class PeerSupervisor(NewSupervisor, frozen=True, kw_only=True):
    """A registered supervisor, dead or alive. Its jobs are those with `owner == id`."""

    id: int
    """Ids grow and are never used twice. A supervisor that registers again gets a new one."""
    started_us: int
    heartbeat_us: int
    """Wall time of its last heartbeat."""
    lease_left_us: int
    """How long its jobs were its own yet when this was read, by the store's own clock; 0 or less: its lease is over."""
    renewed: int
    """Differs after each heartbeat: `take_over` sees by it that a supervisor has renewed its lease since."""
    unreadable: str = ""
    """What in its row cannot be read, if anything. If that part says whether it lives, it counts as without a lease."""


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A living worker process."""

    pid: int
    job_id: int | None
    """The job it runs now; None: it is idle."""
    job_name: str | None
    since: datetime | None
    """When that job's handler was called."""


class SupervisorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A registered supervisor, dead or alive. Times are aware UTC datetimes."""

    id: int
    host: str
    pid: int
    state: str
    """`alive`; `dead`: its process is gone; `expired`: it has not renewed its lease in time."""
    app: str
    pool: str
    """Where its jobs run, see `Config.pool`."""
    queues: tuple[str, ...]
    concurrency: int
    version: str
    started_at: datetime
    heartbeat_at: datetime
    jobs: int
    """Jobs it has claimed and not finished."""
    workers: tuple[WorkerStatus, ...]
    """Workers are visible on their own host only; elsewhere, and of a cluster, this is empty."""

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


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check, and what to do about it."""

    check: str
    level: Level
    message: str
    remedy: str | None = None
    """None: nothing to do."""

    @property
    def needs_doing(self) -> bool:
        return self.level in (Level.WARNING, Level.ERROR)

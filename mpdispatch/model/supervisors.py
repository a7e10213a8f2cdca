"""A supervisor as its peers see it. Values only."""

from __future__ import annotations

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
    version: str
    token: str = ""
    """A mark in the environment of its workers, by which a rescuer finds them. Empty: it was registered under schema
    version 1. It is never shown."""


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

"""A supervisor as its peers see it. Values only."""

from __future__ import annotations

import msgspec

__all__ = ["NewSupervisor", "PeerSupervisor"]


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
    lease_until_us: int
    """Wall time at which its lease ends, for observers on another host or boot."""
    lease_until_boot_us: int
    """The same on the boottime clock of `boot_id`."""
    unreadable: str = ""
    """What in its row cannot be read, if anything. If that part says whether it lives, it counts as without a lease."""

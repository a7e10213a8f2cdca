"""A supervisor as its peers see it. Values only."""

from __future__ import annotations

import msgspec

__all__ = ["NewSupervisor", "PeerSupervisor"]


class NewSupervisor(msgspec.Struct, frozen=True, kw_only=True):
    """What a supervisor says of itself when it starts."""

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
    """What the environment of its workers is marked with, to find them by when it is gone; `""`: of a supervisor of
    schema version 1. Not shown to anybody."""


class PeerSupervisor(NewSupervisor, frozen=True, kw_only=True):
    """A registered supervisor, dead or alive. Its jobs are those with `owner == id`."""

    id: int
    """Grows; never used again. A supervisor that registers anew gets a new one."""
    started_us: int
    heartbeat_us: int
    """Wall time of its last heartbeat."""
    lease_until_us: int
    """Wall time until which its jobs are its own, for observers on another host or boot."""
    lease_until_boot_us: int
    """The same on the boottime clock of `boot_id`."""
    unreadable: str = ""
    """What of its row cannot be read, if so. It has no lease then, if that concerns whether it lives."""

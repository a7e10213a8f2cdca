"""Duty: kill and reap processes left behind by jobs and inherited as subreaper. Effects: signals."""

from __future__ import annotations

from mpdispatch.clock import Instant
from mpdispatch.host.kill import reap_orphans
from mpdispatch.supervisor.runtime import Runtime


class Orphans:
    """Due after workers have ended, and with each heartbeat; only if the supervisor owns its process."""

    def __init__(self, runtime: Runtime, *, kills: bool) -> None:
        """`kills`: whether to kill processes that a job left running, not only reap them once ended."""
        self._runtime, self._kills = runtime, kills
        self._is_due = False

    def look_soon(self) -> None:
        self._is_due = self._runtime.is_subreaper

    def next_due(self) -> int | None:
        return 0 if self._is_due else None

    def run(self, now: Instant) -> None:
        self._is_due = False
        reap_orphans(self._runtime.pool.child_pids, kills=self._kills)

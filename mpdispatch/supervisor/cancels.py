"""Duty: end our jobs for which a cancel was requested. Effects: the store, signals."""

from __future__ import annotations

from dataclasses import dataclass

from mpdispatch.clock import Instant
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.supervisor.heartbeat import Heartbeat
from mpdispatch.supervisor.reconcile import Reconciler
from mpdispatch.supervisor.upkeep import Upkeep


@dataclass(slots=True)
class Cancels:
    """Due when there may be cancel requests: after a wake-up, a heartbeat, or when jobs came back."""

    _store: SupervisorStore
    _heartbeat: Heartbeat
    _reconciler: Reconciler
    _upkeep: Upkeep
    _is_due: bool = True

    def look_soon(self) -> None:
        self._is_due = True

    def next_due(self) -> int | None:
        return 0 if self._is_due else None

    def run(self, now: Instant) -> None:
        """Raises StoreError."""
        self._reconciler.cancel(self._store.cancel_requests(self._heartbeat.owner), now.boot_us)
        self._upkeep.look_soon()  # upkeep deletes requests that came too late
        self._is_due = False

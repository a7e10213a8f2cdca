"""Duty: end our jobs for which a cancel was requested. Effects: the store, signals."""

from __future__ import annotations

from typing import ClassVar

from mpdispatch.clock import Instant
from mpdispatch.store.contract import SupervisorStore
from mpdispatch.supervisor.heartbeat import Heartbeat
from mpdispatch.supervisor.reconcile import Reconciler
from mpdispatch.supervisor.upkeep import Upkeep


class Cancels:
    """Due when there may be cancel requests: after a wake-up, a heartbeat, or when jobs came back."""

    needs_store: ClassVar[bool] = True

    def __init__(
        self, store: SupervisorStore, heartbeat: Heartbeat, reconciler: Reconciler, upkeep: Upkeep
    ) -> None:
        self._store, self._heartbeat, self._reconciler, self._upkeep = store, heartbeat, reconciler, upkeep
        self._is_due = True

    def look_soon(self) -> None:
        self._is_due = True

    def next_due(self) -> int | None:
        return 0 if self._is_due else None

    def run(self, now: Instant) -> None:
        """Raises StoreError."""
        self._reconciler.cancel(self._store.cancel_requests(self._heartbeat.owner), now.boot_us)
        self._upkeep.look_soon()  # upkeep deletes requests that came too late
        self._is_due = False

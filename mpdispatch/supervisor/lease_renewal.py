"""Duty: renew our lease. Each renewal also checks our files, and reconciles the jobs we hold with the store.

Effects: the store, files beside it, signals.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpdispatch.clock import Instant
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.supervisor.cancels import Cancels
from mpdispatch.supervisor.heartbeat import Heartbeat
from mpdispatch.supervisor.orphans import Orphans
from mpdispatch.supervisor.recall import Recall
from mpdispatch.supervisor.reconcile import Reconciler
from mpdispatch.supervisor.registration import Registration


@dataclass(slots=True)
class LeaseRenewal:
    """Due with each heartbeat."""

    _store: SupervisorStore
    _heartbeat: Heartbeat
    _registration: Registration
    _reconciler: Reconciler
    _recall: Recall
    _cancels: Cancels
    _orphans: Orphans

    def next_due(self) -> int | None:
        return self._heartbeat.next_us

    def run(self, now: Instant) -> None:
        """Raises StoreError; LeaseLostError: our registration is gone."""
        if (renewal := self._heartbeat.renew()) is None:
            return
        self._store.file_care.verify()
        self._registration.restore_files(lambda: self._recall.take_all(now.boot_us))
        self._reconciler.reconcile(self._heartbeat.owner, renewal.owned, now.boot_us)
        self._cancels.look_soon()
        self._orphans.look_soon()

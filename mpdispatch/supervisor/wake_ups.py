"""Duty: answer a wake-up. A new job goes to an idle worker before the supervisor does anything else.

Effects: the store.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpdispatch.clock import Clock, Instant
from mpdispatch.pool.selector import Selected
from mpdispatch.supervisor.assign import Assigner
from mpdispatch.supervisor.cancels import Cancels
from mpdispatch.supervisor.claimer import Claimer
from mpdispatch.supervisor.committer import Committer
from mpdispatch.supervisor.contention import Contention
from mpdispatch.supervisor.crons import Crons
from mpdispatch.supervisor.peers import Peers
from mpdispatch.supervisor.registration import Registration


@dataclass(slots=True)
class WakeUps:
    """Due after a wake-up: a job may be enqueued, cancelled or released, or a supervisor may have joined."""

    _registration: Registration
    _clock: Clock
    _claimer: Claimer
    _committer: Committer
    _contention: Contention
    _assigner: Assigner
    _cancels: Cancels
    _peers: Peers
    _crons: Crons
    _is_due: bool = False

    def hear(self, events: Selected, now: Instant) -> None:
        for key, _ in events:
            if key.data is self._registration:
                self._registration.drain_wakes()
                self._is_due = True
                self._claimer.try_now()
                self._contention.woken(now.boot_us)
                self._cancels.look_soon()
                self._peers.woken()
                self._crons.woken()

    def next_due(self) -> int | None:
        return 0 if self._is_due else None

    def run(self, now: Instant) -> None:
        """Raises StoreError."""
        self._is_due = False
        self._claimer.try_now()  # again: a commit on the store thread may have claimed before the wake-up
        if self._committer.may_commit(now.boot_us):
            self._committer.commit(now.boot_us, skip_idle_check=True)
            self._assigner.assign(self._clock.now().boot_us)

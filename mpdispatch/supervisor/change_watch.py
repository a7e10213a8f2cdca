"""Duty: check whether the store has changed at all before searching it. Effects: the store.

An idle supervisor thus makes one read instead of a dozen.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpdispatch.clock import Clock, Instant
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.supervisor.cancels import Cancels
from mpdispatch.supervisor.claimer import Claimer
from mpdispatch.supervisor.in_flight import InFlight
from mpdispatch.supervisor.peers import Peers
from mpdispatch.supervisor.shutdown import Shutdown


@dataclass(slots=True)
class ChangeWatch:
    """Due before a claim or check of the peers that finds nothing unless another writer was active."""

    _store: SupervisorStore
    _clock: Clock
    _in_flight: InFlight
    _claimer: Claimer
    _peers: Peers
    _cancels: Cancels
    _shutdown: Shutdown
    _is_drain: bool

    def next_due(self) -> int | None:
        if self._is_drain or self._shutdown.is_on or self._cancels.next_due() is not None:
            return None
        if self._peers.living or self._peers.is_rescuing:
            return None
        if self._in_flight.has_news or not self._claimer.is_only_a_poll(self._clock.now()):
            return None
        return min(self._claimer.next_us, self._peers.next_due())

    def run(self, now: Instant) -> None:
        """Postpone the claim and the check of the peers if nothing has changed. Raises StoreError."""
        if self._store.file_care.has_changed():
            # `has_changed` reports a change once, so both must look now: a later check would see no change.
            self._claimer.try_now()
            self._peers.look_soon()
        else:
            self._claimer.put_off(self._clock.now())
            self._peers.put_off(now.boot_us)

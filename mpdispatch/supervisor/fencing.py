"""Does nothing under a lease that another supervisor may have taken over. Effects: the store, signals.

    trusted ──time──▶ not trusted ──▶ ask the store ──registered: renewed──▶ trusted, and nothing has ended
                          ▲                 │
                reported as gone            └──gone, or out of reach──▶ kill all, forget all, join anew

A supervisor that was stopped or suspended for longer than the threshold is still registered if no other
supervisor runs: closing a laptop's lid costs no job. A busy store is asked a few times; until it answers,
nothing is written or claimed. A store that falls silent in the middle of a call – its server is stopped, or cut
off – is out of reach as well: what runs is killed in time, while the call is still away.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from mpdispatch.clock import SECOND_US
from mpdispatch.errors import LeaseLostError, StoreBusy, StoreCorrupt, StoreError, StoreIOError, StoreVanished
from mpdispatch.supervisor.event_publisher import EventPublisher
from mpdispatch.supervisor.heartbeat import Heartbeat
from mpdispatch.supervisor.in_flight import InFlight
from mpdispatch.supervisor.peers import Peers
from mpdispatch.supervisor.registration import Registration
from mpdispatch.supervisor.runtime import Runtime

_TRIES = 4
"""How often to ask a busy store, 50 ms each, if time allows. Mostly it was busy for a whole threshold."""


class LeaseGivenUpError(LeaseLostError):
    """While a call of the store was away, the lease ended, and all workers were killed."""


@dataclass(slots=True)
class Fencing:
    """The loop's thread only."""

    _runtime: Runtime
    _heartbeat: Heartbeat
    _registration: Registration
    _peers: Peers
    _in_flight: InFlight
    _publisher: EventPublisher | None
    _asked: int = 0
    """How often a busy store was asked in vain."""
    _asked_since_us: int = 0
    _silent_since_us: int | None = None
    """Since when a call is away without a lease that is trusted."""

    def regain(self) -> None:
        """Get a lease that can be trusted: our old one if the store still knows it, else a new one.

        Raises LeaseLostError: the registration is gone; StoreError: the store is busy, to be asked again in a
        moment, or we cannot join anew now.
        """
        if not self._heartbeat.is_lost:
            try:
                self._ask()
            except (StoreVanished, StoreCorrupt, StoreIOError):
                raise  # This supervisor ends.
            except StoreError as error:
                if isinstance(error, StoreBusy) and self._may_ask_again():
                    raise
                self._heartbeat.distrust()
                self._runtime.repeats.log(
                    "fence",
                    logging.ERROR,
                    "no heartbeat in time, and the store does not say whether our lease is still ours; starting over",
                    extra={"owner": self._heartbeat.owner, "why": str(error)},
                )
            else:
                return
        self._start_over()

    def _ask(self) -> None:
        now_us = self._runtime.clock.now().boot_us
        if self._asked == 0:
            self._asked_since_us = now_us
        self._asked += 1
        self._heartbeat.ask()
        self._asked = 0
        self._peers.spare()
        self._runtime.log.warning(
            "no heartbeat in time (stopped, suspended, or the store was not writable); the lease is still ours: going on",
            extra={"owner": self._heartbeat.owner},
        )

    def _may_ask_again(self) -> bool:
        until_us = self._heartbeat.may_ask_until_us(self._asked_since_us)
        return self._asked < _TRIES and self._runtime.clock.now().boot_us < until_us

    def wait_s(self, now_us: int) -> float:
        """While a call of the store is away: seconds until `is_unanswered` may be true."""
        heartbeat = self._heartbeat
        if heartbeat.is_lost:
            return float("inf")
        since_us = self._silent_since_us
        until_us = heartbeat.trusted_until_us if since_us is None else heartbeat.may_ask_until_us(since_us)
        return max(0, until_us - now_us) / SECOND_US

    def is_unanswered(self, now_us: int) -> bool:
        """Whether a call is away for so long that our lease may be another's by now."""
        heartbeat = self._heartbeat
        if heartbeat.is_lost or heartbeat.is_trusted(now_us):
            self._silent_since_us = None
            return False
        if self._silent_since_us is None:
            self._silent_since_us = now_us
        return now_us >= heartbeat.may_ask_until_us(self._silent_since_us)

    def give_up(self) -> None:
        """Kill all workers while a call is away. Nothing that it answers counts any more; then we start over."""
        self._silent_since_us = None
        self._heartbeat.distrust()
        self._runtime.pool.give_up_all()
        self._runtime.repeats.log(
            "fence",
            logging.ERROR,
            "the store has not answered until our lease ended; workers are killed, and we start over",
            extra={"owner": self._heartbeat.owner},
        )

    def _start_over(self) -> None:
        """Kill all workers, forget everything, join anew. A rescue takes our old jobs. Raises StoreError."""
        self._asked = 0
        self._peers.give_up(self._heartbeat.owner)
        self._runtime.pool.give_up_all()
        self._in_flight.drop()
        if self._publisher is not None:
            self._publisher.forget()
        self._registration.rejoin()

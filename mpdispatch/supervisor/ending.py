"""Duty: end the run once a stop or a drain has nothing left to wait for. Effects: the store, signals."""

from __future__ import annotations

from dataclasses import dataclass

from mpdispatch.clock import Instant
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.store.values import LeftBehind
from mpdispatch.supervisor.claimer import Claimer
from mpdispatch.supervisor.in_flight import InFlight
from mpdispatch.supervisor.registration import Registration
from mpdispatch.supervisor.runtime import Runtime
from mpdispatch.supervisor.shutdown import RunReport, Shutdown
from mpdispatch.supervisor.upkeep import Upkeep

_AGAIN_US = 100_000
"""How often a drain checks for jobs that it waits for but cannot claim."""
_FOUND_US = 8_000
"""A drain goes on for this long after upkeep has found jobs, to claim them, take them over or report them."""
_FLUSH_S = 2.0
"""Time limit for idle workers to send the spans they hold."""


@dataclass(slots=True)
class Ending:
    """Due when nothing is in flight and a stop was requested, or a drain has nothing more to claim."""

    _runtime: Runtime
    _store: SupervisorStore
    _in_flight: InFlight
    _claimer: Claimer
    _registration: Registration
    _upkeep: Upkeep
    _shutdown: Shutdown
    _is_drain: bool
    _is_traced: bool
    """Whether workers hold spans back, so that they may exit by themselves before they are killed."""
    _again_us: int = 0
    report: RunReport | None = None
    """How the run ended; None while it goes on. Written only here."""

    def next_due(self) -> int | None:
        if not (self._shutdown.is_on or self._is_drain):
            return None
        if (
            self._in_flight.pending
            or self._in_flight.backlog
            or any(True for _ in self._runtime.pool.assignments())
        ):
            return None
        if self._shutdown.is_on:
            return 0
        if self._claimer.has_more:
            return None
        return max(self._again_us, self._upkeep.found_us + _FOUND_US)

    def run(self, now: Instant) -> None:
        """Raises StoreError."""
        if self._shutdown.is_on:
            self.end(75 if self._shutdown.was_aborted else 0, is_settled=True)
        elif self._upkeep.hurry():
            return  # `found_us` records when upkeep found something
        elif (left := self._store.outstanding(self._claimer.queues).left) is None:
            self._again_us = now.boot_us + _AGAIN_US
        else:
            self.end(1 if self._in_flight.failed else 0, is_settled=True, left=left)

    def end(self, exit_code: int, *, is_settled: bool = False, left: LeftBehind | None = None) -> None:
        """Kill the workers and leave the store. `left`: the jobs a drain leaves there.

        Our registration stays unless all our jobs are settled: others need it to rescue the jobs.
        """
        pool, in_flight = self._runtime.pool, self._in_flight
        if self._is_traced and is_settled:
            pool.dismiss(wait_s=_FLUSH_S)
        pool.kill_all()
        if is_settled:
            self._registration.leave()
        self.report = RunReport(
            exit_code=exit_code,
            completed=in_flight.completed,
            failed=in_flight.failed,
            stale_writes=in_flight.stale_writes,
            parked=self._claimer.parked if left is None else left.held,
            scheduled=0 if left is None else left.scheduled,
        )
        self._runtime.log.info(
            "stopped",
            extra={"exit_code": exit_code, "completed": in_flight.completed, "failed": in_flight.failed},
        )

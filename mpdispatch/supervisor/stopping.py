"""Duty: stop on request: let running jobs finish, ask them to end, then kill. Effects: signals, the log."""

from __future__ import annotations

from dataclasses import dataclass

from mpdispatch.clock import Instant
from mpdispatch.pool.selector import Selected
from mpdispatch.supervisor.deadlines import Deadlines
from mpdispatch.supervisor.decider import Decider
from mpdispatch.supervisor.ending import Ending
from mpdispatch.supervisor.in_flight import InFlight
from mpdispatch.supervisor.recall import Recall
from mpdispatch.supervisor.runtime import Runtime
from mpdispatch.supervisor.shutdown import Shutdown


@dataclass(slots=True)
class Stopping:
    """Due at each stage of a stop. The loop also runs it first, so a request stops assigning and claiming."""

    _runtime: Runtime
    _shutdown: Shutdown
    _in_flight: InFlight
    _recall: Recall
    _decider: Decider
    _deadlines: Deadlines
    _ending: Ending

    def hear(self, events: Selected) -> None:
        stop_signal = self._runtime.stop_signal
        if any(key.data is stop_signal for key, _ in events):
            stop_signal.drain()

    def next_due(self) -> int | None:
        if self._shutdown.is_on and self._in_flight.backlog:
            return 0
        return self._shutdown.next_due()

    def run(self, now: Instant) -> None:
        requests = self._runtime.stop_signal.requests
        if requests == 0:
            return
        if not self._shutdown.is_on:
            in_hand = sum(1 for _ in self._runtime.pool.assignments())
            self._runtime.log.info("stopping: running jobs may finish", extra={"in_hand": in_hand})
            self._shutdown.begin(now.boot_us, self._runtime.stop_signal.patience_s)
            self._recall.take_all(now.boot_us)
        self._decider.release_backlog()
        step = self._shutdown.step(now.boot_us, is_urgent=requests > 1)
        if step is not None and self._deadlines.abort_all(now.boot_us, at_once=step == "kill"):
            self._shutdown.was_aborted = True
        if self._shutdown.is_hopeless(now.boot_us):
            self._runtime.log.error("the store stayed busy; leaving the last outcomes to a rescuer")
            self._ending.end(75)

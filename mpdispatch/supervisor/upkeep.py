"""Duty: have the store do its upkeep between commits, in small steps. Effects: the store."""

from __future__ import annotations

from mpdispatch.clock import SECOND_US, Instant
from mpdispatch.config import Config
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.supervisor.claimer import Claimer
from mpdispatch.supervisor.peers import Peers
from mpdispatch.supervisor.runtime import Runtime

_STEPS_IN_A_HURRY = 50
"""Steps per call of `hurry`: some 50 ms."""
_PAUSE_US = 10_000
"""Pause between two steps, which leaves the loop and the write lock to other work."""


class Upkeep:
    """Due while there is more to do, with each poll, and after cancel requests. Times are boottime µs."""

    def __init__(
        self, runtime: Runtime, store: SupervisorStore, config: Config, claimer: Claimer, peers: Peers
    ) -> None:
        self._runtime, self._store, self._claimer, self._peers = runtime, store, claimer, peers
        self._queues, self._poll_us = tuple(config.queues), round(config.poll_interval * SECOND_US)
        self._rebased = 0
        """Jobs that wait anew and are not logged yet."""
        self._at_us = 0
        self.has_more = True
        """Whether there is more to do before the next poll."""
        self.found_us = 0
        """When upkeep last found jobs that may be due sooner than was known."""

    def look_soon(self) -> None:
        self._at_us = min(self._at_us, self._runtime.clock.now().boot_us + _PAUSE_US)

    def next_due(self) -> int | None:
        return self._at_us

    def run(self, now: Instant) -> None:
        """Do one bounded step. Raises StoreError."""
        self._step(now)
        self._at_us = now.boot_us + (_PAUSE_US if self.has_more else self._poll_us)
        self._store.file_care.checkpoint_if_large()

    def hurry(self) -> bool:
        """Do many of the remaining steps, because a drain waits. False: none were left. Raises StoreError."""
        if not self.has_more:
            return False
        now = self._runtime.clock.now()
        for _ in range(_STEPS_IN_A_HURRY):
            if self._step(now) or not self.has_more:
                break
        self._found(now)
        return True

    def _step(self, now: Instant) -> bool:
        """Whether it has found anything to change."""
        step = self._store.upkeep.step(self._queues)
        self.has_more = step.has_more
        self._rebased += step.rebased
        if self._rebased and not (step.rebased and step.has_more):
            self._runtime.log.warning(
                "the clock was set back: %d jobs that wait to be tried again wait anew", self._rebased
            )
            self._rebased = 0
        if is_found := step.rebased > 0 or step.repaired > 0 or step.expired > 0:
            self._found(now)
        return is_found

    def _found(self, now: Instant) -> None:
        """There may be jobs to claim, to take over or to report, and a drain waits for them."""
        self.found_us = now.boot_us
        self._claimer.try_now()
        self._peers.look_soon()

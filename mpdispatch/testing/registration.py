"""The registration of a test at a store: as a supervisor it claims one job at a time and commits outcomes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from mpdispatch.clock import SECOND_US, sleep
from mpdispatch.engine.engine import Engine
from mpdispatch.errors import StoreBusy
from mpdispatch.model import ClaimRequest, Transition
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.store.values import CommitResult, Reports
from mpdispatch.supervisor.heartbeat import this_process

T = TypeVar("T")

_LEASE_US = 3600 * SECOND_US
"""Longer than a test: nobody renews it. If this process dies, other supervisors see that."""
_PATIENCE_S = 30.0
_PAUSE_S = 0.005


class Registration:
    """One registration. Unlike a supervisor it polls every queue there is. For the calling thread only."""

    def __init__(self, engine: Engine, store: SupervisorStore, *, tends: bool) -> None:
        """`tends`: have the store look after its rows, too."""
        self._engine, self._store, self._tends = engine, store, tends
        self._queues = self._all_queues()
        who = this_process(self._queues, 1, "mpdispatch.testing")
        self._owner = _patiently(lambda: store.register(who, _LEASE_US))

    def _all_queues(self) -> tuple[str, ...]:
        engine = self._engine
        declared = {each.queue for each in engine.registry.definitions()}
        found = {each.name for each in engine.store.queue_stats()}
        return tuple(sorted({*engine.dispatcher.config.queues, *declared, *found}))

    def finds_more(self) -> bool:
        """Whether there may be jobs to claim after a claim has found none."""
        before, self._queues = self._queues, self._all_queues()
        return self._queues != before or (self._tends and self._tend())

    def _tend(self) -> bool:
        """Do all that the store has to do for its rows. Whether jobs may have become due or ended by that."""
        found = False
        while True:
            step = _patiently(lambda: self._store.upkeep.step(self._queues))
            found = found or step.has_more or step.rebased + step.repaired + step.expired > 0
            if not step.has_more:
                return found

    def claim(self) -> CommitResult:
        """Stage what is due, and claim the first job in order."""
        names = self._engine.catalog.names()
        request = ClaimRequest(queues=self._queues, slots=1, names=names, app="this test's engine")
        return _patiently(lambda: self._store.commit(self._owner, (), claim=request))

    def commit(self, transition: Transition, reports: Reports) -> CommitResult:
        """Record an outcome, and what its start has reported."""
        return _patiently(lambda: self._store.commit(self._owner, [transition], reports))

    def leave(self) -> None:
        """Remove the registration. Every claimed job was committed."""
        _patiently(lambda: self._store.unregister(self._owner))


def _patiently(call: Callable[[], T]) -> T:
    """What the call gives, as soon as the store is not busy. Raises StoreBusy after 30 s."""
    until_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return call()
        except StoreBusy:
            if time.monotonic() >= until_s:
                raise
        sleep(_PAUSE_S)

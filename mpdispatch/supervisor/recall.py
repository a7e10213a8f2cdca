"""Duty: recall jobs that wait too long behind a slow job, or for any worker. Effects: channels."""

from __future__ import annotations

from mpdispatch.clock import SECOND_US, Instant
from mpdispatch.config import Config
from mpdispatch.pool.assigned import WorkerState
from mpdispatch.pool.protocol import Pool, Worker
from mpdispatch.supervisor.assign import Assigner
from mpdispatch.supervisor.decider import Decider
from mpdispatch.supervisor.in_flight import InFlight

_STALE_US = SECOND_US
"""The backlog is released if no worker had room for this long: another supervisor may have an idle worker."""


class Recall:
    """Due when a running job has taken twice as long as a worker's buffer should last, or the backlog is stale."""

    def __init__(
        self, pool: Pool, in_flight: InFlight, config: Config, assigner: Assigner, decider: Decider
    ) -> None:
        self._pool, self._in_flight, self._assigner, self._decider = pool, in_flight, assigner, decider
        self._window_us = round(config.prefetch_window * SECOND_US)
        self._ran_us = 0

    def next_due(self) -> int | None:
        due = [self._due_of(worker) for worker in self._pool.workers if len(worker.assigned) > 1]
        if self._in_flight.backlog:
            due.append(self._backlog_due())
        return min(due, default=None)

    def _due_of(self, worker: Worker) -> int:
        started_us = worker.started_us(worker.assigned[0])
        if started_us is None:
            return self._ran_us + 2 * self._window_us
        return max(started_us + 2 * self._window_us, self._ran_us + self._window_us)

    def _backlog_due(self) -> int:
        """When the backlog is stale. Not before all booting workers are late: it may be for them."""
        coming = (self._assigner.late_from_us(w) for w in self._pool.workers if w.state is WorkerState.BOOTING)
        return max([self._in_flight.backlog_since_us + _STALE_US + 1, *coming])

    def run(self, now: Instant) -> None:
        now_us = now.boot_us
        for worker in self._pool.workers:
            if len(worker.assigned) < 2 or now_us < self._due_of(worker):
                continue
            if worker.started_us(worker.assigned[0]) is not None:
                self._in_flight.put_back(worker.recall(), now_us)
        self._ran_us = now_us
        if self._in_flight.backlog and now_us >= self._backlog_due():
            self._decider.release_backlog()

    def take_all(self, now_us: int) -> None:
        """Recall every unstarted job from all workers."""
        for worker in self._pool.workers:
            self._in_flight.put_back(worker.recall(), now_us)

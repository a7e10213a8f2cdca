"""Duty: warn of a worker that imports the app slowly, and kill it at the timeout. Effects: log, signals."""

from __future__ import annotations

import logging

from mpdispatch.clock import SECOND_US, Instant
from mpdispatch.pool.assigned import WorkerState
from mpdispatch.pool.protocol import Pool, Worker

_LATE_US = 30 * SECOND_US


class SlowImports:
    """Due once a worker has been importing the app for 30 s, to warn once, and at the timeout, to kill it."""

    def __init__(self, pool: Pool, log: logging.Logger, *, timeout_s: float) -> None:
        self._pool, self._log = pool, log
        self._timeout_s, self._timeout_us = timeout_s, round(timeout_s * SECOND_US)

    def next_due(self) -> int | None:
        return min(
            (self._due_of(worker) for worker in self._pool.workers if worker.state is WorkerState.BOOTING),
            default=None,
        )

    def _due_of(self, worker: Worker) -> int:
        patience_us = self._timeout_us if worker.is_late else min(self._timeout_us, _LATE_US)
        return worker.started_boot_us + patience_us

    def run(self, now: Instant) -> None:
        for worker in self._pool.workers:
            if worker.state is WorkerState.BOOTING:
                self._look_at(worker, now.boot_us - worker.started_boot_us)

    def _look_at(self, worker: Worker, ran_us: int) -> None:
        if ran_us >= self._timeout_us:
            worker.killed_because = (
                f"its import of the app took longer than boot_timeout ({self._timeout_s:g} s);"
                " MPDISPATCH_BOOT_TIMEOUT or boot_timeout in the config file give it more"
            )
            worker.kill()
        elif ran_us >= _LATE_US and not worker.is_late:
            worker.is_late = True
            # Of a worker of a cluster no pid is known yet.
            hint = f" `kill -USR2 {worker.pid}` has it print where it is;" if worker.pid else ""
            self._log.warning(
                "a worker has been importing the app for %d s and runs nothing until that is done;"
                "%s at %g s (boot_timeout) it is killed",
                _LATE_US // SECOND_US,
                hint,
                self._timeout_s,
            )

"""Starts as many workers as are wanted and allowed. Effects: processes."""

from __future__ import annotations

import logging
import os

from mpdispatch.pool.assigned import WorkerState
from mpdispatch.pool.protocol import Pool, Worker
from mpdispatch.supervisor.assign import Assigner
from mpdispatch.supervisor.boot_backoff import BootBackoff
from mpdispatch.supervisor.in_flight import InFlight
from mpdispatch.supervisor.runtime import Runtime

_WARMING_US = 10_000
"""How soon to check again while the zygote imports the app. Further workers wait for it: forked, they are
ready sooner and share its memory."""
_GROWTH_US = 50_000
"""With a lasting surplus of short jobs, one more worker is started this often."""


class Staffing:
    """The loop's thread only."""

    def __init__(
        self, runtime: Runtime, in_flight: InFlight, slots: int, assigner: Assigner, boot_backoff: BootBackoff
    ) -> None:
        self._pool, self._repeats = runtime.pool, runtime.repeats
        self._in_flight, self._assigner, self._boot_backoff = in_flight, assigner, boot_backoff
        self._most = slots
        self._replacement = _ForkReplacement(runtime.pool)
        self._boots_at_once = max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
        self._last_spawn_us = 0

    @property
    def _slots(self) -> int:
        """Most workers now: as many as jobs may run at once, and as the pool can have."""
        return min(self._most, self._pool.capacity)

    def staff(self, now_us: int, *, has_more: bool) -> int | None:
        """Start workers if wanted and allowed. Returns when to check again (boottime µs), or None.

        `has_more`: the last claim may have left due jobs.
        """
        pool, may_start = self._pool, self._boot_backoff.is_over(now_us)
        held_back = self._in_flight.rated.workers_wanted(now_us)
        if not (self._in_flight.backlog or held_back):
            self._replacement.step(may_start=may_start)
        alive = self._alive()
        if alive >= self._slots or len(pool.workers) >= 2 * self._slots:
            return None
        if not may_start:
            return self._boot_backoff.until_us
        if self._waits_for_zygote():
            return now_us + _WARMING_US
        all_busy = has_more and self._are_all_busy()
        is_surplus = all_busy and now_us - self._last_spawn_us >= _GROWTH_US
        if not self._start(self._wanted(alive, held_back, is_surplus=is_surplus), now_us):
            return self._boot_backoff.until_us
        return now_us + _GROWTH_US if all_busy or held_back else None

    def _waits_for_zygote(self) -> bool:
        return bool(self._pool.ready) and self._pool.is_warming

    def _are_all_busy(self) -> bool:
        return all(worker.assigned for worker in self._pool.workers)

    def _alive(self) -> int:
        return sum(worker.state is not WorkerState.RETIRING for worker in self._pool.workers)

    def _wanted(self, alive: int, held_back: int, *, is_surplus: bool) -> int:
        """How many workers to start for the backlog and for `held_back` jobs of rate-limited queues; else one to grow."""
        if alive == 0:
            return max(1, min(held_back, self._slots))
        wanted = len(self._in_flight.backlog)
        if held_back:
            wanted = max(wanted, held_back - self._pool.booting - self._assigner.ready_at_once())
        return min(max(wanted, int(is_surplus)), self._slots - alive)

    def _start(self, wanted: int, now_us: int) -> bool:
        """Start that many workers, but few at once. False: one cannot be started."""
        while wanted > 0 and self._pool.booting < self._boots_at_once:
            try:
                self._pool.spawn()
            except OSError as error:
                self._repeats.log(
                    ("spawn", error.errno),
                    logging.WARNING,
                    "cannot start a worker, trying again",
                    extra={"error": str(error)},
                )
                self._boot_backoff.failed(now_us)
                return False
            self._last_spawn_us = now_us
            wanted -= 1
        return True


class _ForkReplacement:
    """Replaces workers that imported the app themselves by forked ones, which share memory with the zygote.

    This saves 2.5 MiB per worker with an empty app. One at a time, while no job waits; soon after the start.

    ```
      zygote has the app ─▶ successor forked ─▶ successor is ready ─▶ the old worker retires once it is idle
                                 └─ ends, hangs: the old worker stays
    ```
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._successor: Worker | None = None

    def step(self, *, may_start: bool) -> None:
        """Start or finish one replacement, if possible now. `may_start`: a worker may be started now."""
        successor = self._successor if self._successor in self._pool.workers else None
        if successor is not None and successor.state is WorkerState.BOOTING:
            return
        # Wait until the successor is ready: an app that does not survive a fork may run well without one.
        old = self._idle_one()
        if successor is not None and successor.state is WorkerState.READY:
            if old is not None:
                self._successor = None
                old.retire()
            return
        self._successor = None
        if old is not None and may_start and self._pool.has_app and not self._pool.booting:
            try:
                self._successor = self._pool.spawn()
            except OSError:
                return  # no process or descriptor available: the old worker stays

    def _idle_one(self) -> Worker | None:
        """An idle worker that does not share the zygote's memory, or None."""
        for worker in self._pool.workers:
            if not worker.shares_app and worker.state is WorkerState.READY and not worker.unwritten:
                return worker
        return None

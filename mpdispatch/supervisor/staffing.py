"""Starts as many workers as are wanted and allowed. Effects: processes."""

from __future__ import annotations

import logging
import os

from mpdispatch.config import Config
from mpdispatch.pool.pool import Pool
from mpdispatch.pool.process import WorkerState
from mpdispatch.repeated import Repeated
from mpdispatch.supervisor.assign import Assigner
from mpdispatch.supervisor.boot_backoff import BootBackoff
from mpdispatch.supervisor.fork_replacement import ForkReplacement
from mpdispatch.supervisor.in_flight import InFlight

_WARMING_US = 10_000
"""How soon to check again while the zygote imports the app. Further workers wait for it: forked, they are
ready sooner and share its memory."""
_GROWTH_US = 50_000
"""With a lasting surplus of short jobs, one more worker is started this often."""


class Staffing:
    """The loop's thread only."""

    def __init__(
        self,
        pool: Pool,
        in_flight: InFlight,
        config: Config,
        assigner: Assigner,
        boot_backoff: BootBackoff,
        repeats: Repeated,
    ) -> None:
        self._pool, self._in_flight, self._assigner = pool, in_flight, assigner
        self._boot_backoff, self._repeats = boot_backoff, repeats
        self._slots = config.slots
        self._replacement = ForkReplacement(pool)
        self._boots_at_once = max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
        self._last_spawn_us = 0

    def staff(self, now_us: int, *, has_more: bool) -> int | None:
        """Start workers if wanted and allowed. Returns when to check again (boottime µs), or None.

        `has_more`: the last claim may have left due jobs.
        """
        pool, may_start = self._pool, self._boot_backoff.is_over(now_us)
        held_back = self._in_flight.rated.workers_wanted(now_us)
        if not self._in_flight.backlog and not held_back:
            self._replacement.step(may_start=may_start)
        alive = sum(worker.state is not WorkerState.RETIRING for worker in pool.workers)
        if alive >= self._slots or len(pool.workers) >= 2 * self._slots:
            return None
        if not may_start:
            return self._boot_backoff.until_us
        if pool.ready and pool.spawner.is_warming:
            return now_us + _WARMING_US
        wanted = 1 if alive == 0 else min(len(self._in_flight.backlog), self._slots - alive)
        if held_back:
            coming = pool.booting + self._assigner.ready_at_once()
            wanted = max(wanted, min(held_back - coming, self._slots - alive))
        all_busy = has_more and all(worker.assigned for worker in pool.workers)
        if wanted == 0 and all_busy and now_us - self._last_spawn_us >= _GROWTH_US:
            wanted = 1
        while wanted > 0 and pool.booting < self._boots_at_once:
            try:
                pool.spawn()
            except OSError as error:
                self._repeats.say(
                    ("spawn", error.errno),
                    logging.WARNING,
                    "cannot start a worker, trying again",
                    extra={"error": str(error)},
                )
                self._boot_backoff.failed(now_us)
                return self._boot_backoff.until_us
            self._last_spawn_us = now_us
            wanted -= 1
        return now_us + _GROWTH_US if all_busy or held_back else None

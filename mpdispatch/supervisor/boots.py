"""Duty: say which worker's import of the app takes long: until it is over that worker runs nothing. No effects else."""

from __future__ import annotations

import logging

from mpdispatch.clock import SECOND_US
from mpdispatch.pool.pool import Pool
from mpdispatch.pool.process import WorkerState

__all__ = ["look_at_boots"]

_LATE_US = 30 * SECOND_US


def look_at_boots(pool: Pool, log: logging.Logger, now_us: int) -> int | None:
    """Warn, once of each worker, of an import that has taken 30 s. Gives when to look again (boottime µs), or None.

    It is not ended: it may be a large model that is loaded.
    """
    again: int | None = None
    for worker in pool.workers:
        if worker.state is not WorkerState.BOOTING or worker.is_late:
            continue
        due = worker.started_boot_us + _LATE_US
        if now_us < due:
            again = due if again is None else min(again, due)
            continue
        worker.is_late = True
        log.warning(
            "a worker has been importing the app for %d s and runs nothing until that is done;"
            " `kill -USR2 %d` has it print where it is",
            _LATE_US // SECOND_US,
            worker.pid,
        )
    return again

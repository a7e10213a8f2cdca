"""Duty: say what keeps a worker from running anything: a long import of the app, a disk with no room for its ring."""

from __future__ import annotations

import logging

from mpdispatch.clock import SECOND_US
from mpdispatch.pool.pool import Pool
from mpdispatch.pool.process import WorkerState

__all__ = ["look_at_boots", "look_at_rings"]

_LATE_US = 30 * SECOND_US
_FULL_US = SECOND_US // 2


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


def look_at_rings(pool: Pool, log: logging.Logger, now_us: int) -> int | None:
    """Say, once, that there is no room for the rings of more workers, and try again twice a second.

    Gives when to look again (boottime µs), or None.
    """
    if pool.no_room is not None and now_us >= pool.next_try_us:
        pool.free_rings()
        pool.next_try_us = now_us + _FULL_US
    if (error := pool.no_room) is None:
        if pool.was_full:
            pool.was_full = False
            log.warning("there is room on the disk for all workers again")
        return None
    if not pool.was_full:
        pool.was_full = True
        log.error(
            "no room on the disk for what a worker must write before it begins a job (%s): some workers get no jobs",
            error.strerror,
        )
    return pool.next_try_us

"""Duty: what keeps a worker from running anything: a long import of the app, a disk with no room for its record.

Effects: says so, and ends a worker whose import takes too long.
"""

from __future__ import annotations

import logging

from mpdispatch.clock import SECOND_US
from mpdispatch.pool.pool import Pool
from mpdispatch.pool.process import WorkerProcess, WorkerState

__all__ = ["look_at_rings", "warn_of_slow_imports"]

_LATE_US = 30 * SECOND_US
_FULL_US = SECOND_US // 2


def warn_of_slow_imports(pool: Pool, log: logging.Logger, now_us: int, timeout_s: float) -> int | None:
    """Kill workers that have imported the app for longer than `timeout_s`; its end tells the reason.

    Warns of each, once, after 30 s. Gives when to look again (boottime µs), or None.
    """
    timeout_us = round(timeout_s * SECOND_US)
    again: int | None = None
    for worker in pool.workers:
        if worker.state is not WorkerState.BOOTING:
            continue
        ran_us = now_us - worker.started_boot_us
        if ran_us >= timeout_us:
            worker.killed_because = (
                f"its import of the app took longer than boot_timeout ({timeout_s:g} s); MPDISPATCH_BOOT_TIMEOUT or"
                " boot_timeout in the config file give it more"
            )
            worker.kill()
            continue
        if not worker.is_late and ran_us >= _LATE_US:
            _warn(worker, log, timeout_s)
        due = worker.started_boot_us + (timeout_us if worker.is_late else min(timeout_us, _LATE_US))
        again = due if again is None else min(again, due)
    return again


def _warn(worker: WorkerProcess, log: logging.Logger, timeout_s: float) -> None:
    worker.is_late = True
    log.warning(
        "a worker has been importing the app for %d s and runs nothing until that is done;"
        " `kill -USR2 %d` has it print where it is; at %g s (boot_timeout) it is killed",
        _LATE_US // SECOND_US,
        worker.pid,
        timeout_s,
    )


def look_at_rings(pool: Pool, log: logging.Logger, now_us: int) -> int | None:
    """Say, once, that there is no room for the records of more workers, and try again twice a second.

    Gives when to look again (boottime µs), or None.
    """
    if pool.no_room is not None and now_us >= pool.next_try_us:
        pool.free_records()
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

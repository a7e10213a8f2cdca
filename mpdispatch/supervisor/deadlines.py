"""Duty: end jobs that ran out of time or were cancelled, whatever they do. Effects: signals.

First the soft signal (an exception in the handler), then, after a grace, SIGKILL for the worker's whole tree.
Nothing here waits, and nothing here needs the store: a job ends on time while somebody else holds the file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from mpdispatch.clock import SECOND_US
from mpdispatch.config import Config
from mpdispatch.pool.pool import Pool
from mpdispatch.pool.process import (
    CONTROL_CANCEL,
    CONTROL_TIMEOUT,
    Assignment,
    StopReason,
    WorkerProcess,
    WorkerState,
)
from mpdispatch.repeated import Repeated

__all__ = ["Deadlines"]

_DEAF_US = 5 * SECOND_US
"""A worker that does not begin a job it was given, or let go of one taken back, within this long is replaced (it is
stopped, or hangs in what the last job left behind); the job goes to another."""
_LEAVE_US = 10 * SECOND_US
"""A worker that has done its last job and does not end within this long is killed: it may first send spans, for 4 s."""
_LOOK_US = 20_000
"""How soon to look again for a start we have not seen yet."""


class Deadlines:
    """Decides which jobs are to end, and ends them in steps: SIGUSR1, SIGTERM, SIGKILL."""

    def __init__(self, pool: Pool, config: Config, repeats: Repeated) -> None:
        self._pool, self._repeats = pool, repeats
        self._timeout_grace_us = round(config.kill_grace * SECOND_US)
        self._cancel_grace_us = round(config.cancel_grace * SECOND_US)

    def enforce(self, now_us: int) -> int | None:
        """Do what is due. Gives when something is due next (boottime µs), or None."""
        due = [at for worker in list(self._pool.workers) if (at := self._look_at(worker, now_us)) is not None]
        return min(due, default=None)

    def _look_at(self, worker: WorkerProcess, now_us: int) -> int | None:
        if worker.state is WorkerState.KILLED:
            return None
        if not worker.assigned and worker.state is WorkerState.RETIRING:
            return self._look_at_leaving(worker, now_us)
        if not worker.assigned:
            return self._look_at_stale(worker, now_us) if worker.sender.is_stale else None
        head = worker.assigned[0]
        if head.stop_reason is not None:
            if now_us >= head.kill_at_us:
                worker.kill()
                return None
            return head.kill_at_us
        started = worker.started_us(head)
        if started is None:
            return self._not_begun(worker, head, now_us)
        if head.job.timeout_us is None:
            return None
        deadline = started + head.job.timeout_us
        if now_us < deadline:
            return deadline
        if not head.was_spared and worker.has_said_something():
            # We may be late and it in time. Once only: a handler that never stops talking ends too.
            head.was_spared = True
            return now_us
        self._stop(worker, head, StopReason.TIMEOUT, now_us + self._timeout_grace_us)
        return head.kill_at_us

    def _not_begun(self, worker: WorkerProcess, head: Assignment, now_us: int) -> int:
        if head.at_head_us == 0:
            head.at_head_us = now_us
        if now_us - head.at_head_us >= _DEAF_US:
            self._repeats.say(
                "not begun",
                logging.WARNING,
                "a worker does not begin its job; replacing it",
                extra={"worker_pid": worker.pid, "job": head.job.id},
            )
            worker.kill()
        return now_us + (_LOOK_US if head.job.timeout_us is not None else _DEAF_US)

    def _look_at_stale(self, worker: WorkerProcess, now_us: int) -> int:
        """It has nothing to run, so it reads at once what was taken back, and says so."""
        worker.stale_since_us = worker.stale_since_us or now_us
        why = "a worker does not let go of jobs that were taken back; replacing it"
        return self._kill_after(worker, worker.stale_since_us + _DEAF_US, now_us, why)

    def _look_at_leaving(self, worker: WorkerProcess, now_us: int) -> int:
        """It has nothing left to do but to end. Those that do not would in the end keep others from being started."""
        worker.leaving_since_us = worker.leaving_since_us or now_us
        why = "a worker that has done its last job does not end; killing it"
        return self._kill_after(worker, worker.leaving_since_us + _LEAVE_US, now_us, why)

    def _kill_after(self, worker: WorkerProcess, until_us: int, now_us: int, why: str) -> int:
        """Kill it if it is time for that; gives when."""
        if now_us >= until_us:
            self._repeats.say(why, logging.WARNING, why, extra={"worker_pid": worker.pid})
            worker.kill()
        return until_us

    def cancel(self, requests: Iterable[tuple[int, int]], now_us: int) -> None:
        """End these jobs, if a worker holds them."""
        wanted = set(requests)
        for worker, held in list(self._pool.assignments()):
            if held.stop_reason is None and (held.job.id, held.job.starts) in wanted:
                self._stop(worker, held, StopReason.CANCEL, now_us + self._cancel_grace_us)

    def abort_all(self, now_us: int, *, at_once: bool) -> bool:
        """End every job in a hand: the shutdown's patience is over. False: there was none."""
        all_held = list(self._pool.assignments())
        for worker, held in all_held:
            if at_once:
                held.stop_reason = held.stop_reason or StopReason.ABORT
                worker.kill()
            elif held.stop_reason is None:
                self._stop(worker, held, StopReason.ABORT, now_us + self._cancel_grace_us)
        return bool(all_held)

    def _stop(self, worker: WorkerProcess, held: Assignment, stop_reason: StopReason, kill_at_us: int) -> None:
        held.stop_reason, held.kill_at_us = stop_reason, kill_at_us
        worker.interrupt(held, CONTROL_TIMEOUT if stop_reason is StopReason.TIMEOUT else CONTROL_CANCEL)

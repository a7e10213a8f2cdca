"""Duty: end jobs that timed out or were cancelled, even if they do not cooperate. Effects: signals.

First the soft signal (an exception in the handler), then, after a grace, SIGKILL for the worker's whole tree.
Nothing here waits or needs the store: a job ends on time while another process holds the file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from mpdispatch.clock import SECOND_US, Instant
from mpdispatch.config import Config
from mpdispatch.pool.assigned import Assignment, StopReason, WorkerState
from mpdispatch.pool.process import CONTROL_CANCEL, CONTROL_TIMEOUT
from mpdispatch.pool.protocol import Pool, Worker
from mpdispatch.repeated import Repeated

_DEAF_US = 5 * SECOND_US
"""A worker is replaced if it does not start an assigned job, or return a recalled one, within this time: it
is stopped, or hangs in something the last job left behind. The job goes to another worker."""
_LEAVE_US = 10 * SECOND_US
"""A worker that does not exit within this time after its last job is killed. Sending spans may take 4 s."""
_LOOK_US = 20_000
"""How soon to check again for a start that is not in the journal yet."""


class Deadlines:
    """Due when a job's timeout or grace ends, or when a worker does not react in time.

    Ends a job in two steps: SIGUSR1 raises in its handler, SIGKILL ends its worker.
    """

    def __init__(self, pool: Pool, config: Config, repeats: Repeated) -> None:
        self._pool, self._repeats = pool, repeats
        self._ran_us = 0
        self._timeout_grace_us = round(config.kill_grace * SECOND_US)
        self._cancel_grace_us = round(config.cancel_grace * SECOND_US)

    def next_due(self) -> int | None:
        return min(
            (at for worker in self._pool.workers if (at := self._due_of(worker)) is not None), default=None
        )

    def run(self, now: Instant) -> None:
        self._ran_us = now.boot_us
        doomed = []
        for worker in self._pool.workers:
            due = self._due_of(worker)
            if due is not None and now.boot_us >= due and self._act_on(worker, now.boot_us):
                doomed.append(worker)
        self._pool.kill(doomed)

    def _due_of(self, worker: Worker) -> int | None:
        """When to check this worker; 0: now, for the first time."""
        if worker.state is WorkerState.KILLED:
            return None
        if not worker.assigned:
            if worker.state is WorkerState.RETIRING:
                return worker.leaving_since_us and worker.leaving_since_us + _LEAVE_US
            if worker.is_stale:
                return worker.stale_since_us and worker.stale_since_us + _DEAF_US
            return None
        head = worker.assigned[0]
        if head.stop_reason is not None:
            return head.kill_at_us
        started = worker.started_us(head)
        if started is not None:
            return None if head.job.timeout_us is None else started + head.job.timeout_us
        if head.at_head_us == 0:
            return 0
        deaf = head.at_head_us + _DEAF_US
        return deaf if head.job.timeout_us is None else min(deaf, self._ran_us + _LOOK_US)

    def _act_on(self, worker: Worker, now_us: int) -> bool:
        """Act on a worker that is due. True: it is to be killed."""
        if not worker.assigned:
            return self._is_to_be_replaced(worker, now_us)
        head = worker.assigned[0]
        if head.stop_reason is not None:
            return True
        started, timeout_us = worker.started_us(head), head.job.timeout_us
        if started is None:
            return self._is_deaf(worker, head, now_us)
        if timeout_us is None or now_us < started + timeout_us:
            return False  # It started between two checks.
        if not head.was_spared and worker.has_unread():
            # The job may have ended in time with its reply unread. Spare it once only, so that a handler that
            # keeps sending messages ends too.
            head.was_spared = True
        else:
            self._stop(worker, head, StopReason.TIMEOUT, now_us + self._timeout_grace_us)
        return False

    def _is_deaf(self, worker: Worker, head: Assignment, now_us: int) -> bool:
        if head.at_head_us == 0:
            head.at_head_us = now_us
        if now_us - head.at_head_us < _DEAF_US:
            return False
        self._log("a worker does not begin its job; replacing it", worker_pid=worker.pid, job=head.job.id)
        return True

    def _is_to_be_replaced(self, worker: Worker, now_us: int) -> bool:
        """A worker without a job should read a recall at once, or exit. If it does neither, it would keep
        others from being started."""
        if worker.state is WorkerState.RETIRING:
            if worker.leaving_since_us == 0:
                worker.leaving_since_us = now_us
                return False
            self._log("a worker that has done its last job does not end; killing it", worker_pid=worker.pid)
        else:
            if worker.stale_since_us == 0:
                worker.stale_since_us = now_us
                return False
            self._log("a worker does not discard recalled jobs; replacing it", worker_pid=worker.pid)
        return True

    def _log(self, why: str, **facts: int) -> None:
        self._repeats.log(why, logging.WARNING, why, extra=facts)

    def cancel(self, requests: Iterable[tuple[int, int]], now_us: int) -> None:
        """End these jobs, if a worker holds them."""
        wanted = set(requests)
        for worker, held in list(self._pool.assignments()):
            if held.stop_reason is None and (held.job.id, held.job.starts) in wanted:
                self._stop(worker, held, StopReason.CANCEL, now_us + self._cancel_grace_us)

    def abort_all(self, now_us: int, *, at_once: bool) -> bool:
        """End every assigned job, because the shutdown timeout is over. False: there was none."""
        all_held = list(self._pool.assignments())
        for worker, held in all_held:
            if at_once:
                held.stop_reason = held.stop_reason or StopReason.ABORT
            elif held.stop_reason is None:
                self._stop(worker, held, StopReason.ABORT, now_us + self._cancel_grace_us)
        if at_once:
            self._pool.kill([worker for worker, _ in all_held])
        return bool(all_held)

    def _stop(self, worker: Worker, held: Assignment, stop_reason: StopReason, kill_at_us: int) -> None:
        held.stop_reason, held.kill_at_us = stop_reason, kill_at_us
        worker.interrupt(held, CONTROL_TIMEOUT if stop_reason is StopReason.TIMEOUT else CONTROL_CANCEL)

"""Applies what workers report, and how they end, to the jobs in flight. Effects: signals."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from mpdispatch.clock import SECOND_US, Instant
from mpdispatch.config import Config
from mpdispatch.model import Aborted, ErrorInfo, Raised, Run, WorkerDied
from mpdispatch.pool.assigned import WorkerState
from mpdispatch.pool.events import BootFault, Enqueued, Event, Gone, Progressed, Ready, Returned, Settled
from mpdispatch.pool.frames import Wrote
from mpdispatch.pool.protocol import Worker
from mpdispatch.store.values import Progress
from mpdispatch.supervisor.boot_backoff import MOST_DEATHS, BootBackoff
from mpdispatch.supervisor.cancels import Cancels
from mpdispatch.supervisor.decider import Decider
from mpdispatch.supervisor.event_publisher import EventPublisher
from mpdispatch.supervisor.in_flight import InFlight
from mpdispatch.supervisor.orphans import Orphans
from mpdispatch.supervisor.runtime import Runtime
from mpdispatch.supervisor.shutdown import Shutdown

_BOOT_TRIES = 3
"""After this many failed starts in a row, claimed jobs are released."""
_OLD_US = 30 * SECOND_US
"""A worker killed after more than this had started well, so its end does not count as a failed start."""


@dataclass(slots=True)
class PoolEvents:
    """Handles the pool's events. The loop's thread only."""

    _runtime: Runtime
    _config: Config
    _in_flight: InFlight
    _boot_backoff: BootBackoff
    _decider: Decider
    _shutdown: Shutdown
    _cancels: Cancels
    _orphans: Orphans
    _publisher: EventPublisher | None

    def take(self, event: Event, now: Instant) -> None:
        """Apply an event to the jobs in flight."""
        if type(event) is Settled:  # first and plainly: one per job
            self._settled(event, now)
            return
        now_us = now.boot_us
        match event:
            case Returned(jobs=jobs):
                self._in_flight.put_back(jobs, now_us)
                self._cancels.look_soon()  # one of them may have a cancel request
            case Progressed(job_id=job_id, starts=starts, data=data):
                self._in_flight.report(Progress(job_id=job_id, starts=starts, data=data), now_us)
            case Enqueued(events=events, count=count):
                if self._publisher is not None:
                    self._publisher.enqueued(events, count)
            case Wrote():
                self._in_flight.outputs.add(
                    event.id, event.starts, event.stream, event.text, event.written, now_us=now_us
                )
            case BootFault():
                self._did_not_start(event, now_us)
            case Gone():
                self._ended(event, now_us)
            case Ready():
                pass  # The pool already lists it as ready; only its first job shows whether it works.

    def _settled(self, event: Settled, now: Instant) -> None:
        outcome = event.outcome
        if type(outcome) is Raised and outcome.signal == "SIGTERM":
            outcome = self._cut_off(outcome)
        self._decider.decide(event.job, outcome, event.worker, now)
        if self._config.max_worker_rss is not None or self._boot_backoff.is_wary:
            self._look_at_worker(event, now.boot_us)

    def _cut_off(self, ended: Raised) -> Raised | Aborted:
        """The outcome of a command ended by SIGTERM. In a stop the whole service got it: no failure."""
        if not (self._shutdown.is_on or self._runtime.stop_signal.requests):
            return ended
        self._shutdown.was_aborted = True
        return Aborted(run=ended.run, error=ended.error)

    def _look_at_worker(self, event: Settled, now_us: int) -> None:
        """A worker that finished a job works. If its memory exceeds the limit, retire it."""
        self._boot_backoff.suspects.cleared(event.job.id)
        self._boot_backoff.worked(event.worker.started_boot_us)
        limit, run = self._config.max_worker_rss, getattr(event.outcome, "run", None)
        if limit is not None and run is not None and (run.max_rss_bytes or 0) > limit:
            self._in_flight.put_back(event.worker.recall(), now_us)
            event.worker.retire()

    def _did_not_start(self, event: BootFault, now_us: int) -> None:
        self._boot_backoff.failed(now_us)
        self._runtime.repeats.log(
            ("boot", event.reason),
            logging.ERROR,
            "a worker did not start",
            extra={"reason": event.reason, "traceback": event.traceback},
            in_full=2,  # two failed forks stop the use of the zygote, and both should be visible
        )
        if self._boot_backoff.failures >= _BOOT_TRIES and not self._runtime.pool.ready:
            self._decider.release_backlog()

    def _ended(self, event: Gone, now_us: int) -> None:
        worker = event.worker
        # A broken worker was killed by us, but counts as a failure.
        is_broken = worker.channel_fault is not None
        if (worker.state is not WorkerState.KILLED or is_broken) and not self._shutdown.is_on:
            if event.unbegun:
                self._began_nothing(event, now_us)
            elif worker.jobs_sent == 0 and worker.state is not WorkerState.RETIRING:
                self._did_nothing(worker, now_us)
        self._orphans.look_soon()

    def _did_nothing(self, worker: Worker, now_us: int) -> None:
        """A worker imported the app and ended. This counts as a failed start, or starts would never end."""
        was_killed = worker.exit_status is not None and worker.exit_status.signal is not None
        if was_killed and now_us - worker.started_boot_us > _OLD_US:
            return
        self._boot_backoff.failed(now_us, may_be_once=was_killed)
        self._runtime.repeats.log(
            ("ended early", str(worker.exit_status)),
            logging.ERROR,
            "a worker ended before its first job",
            extra={"how": str(worker.exit_status)},
        )

    def _began_nothing(self, event: Gone, now_us: int) -> None:
        """A worker ended between two jobs, in our own code or by a stray kill. A job that repeatedly causes
        it is ended."""
        worker, status = event.worker, event.worker.exit_status
        assert status is not None  # it is gone
        self._boot_backoff.failed(now_us, may_be_once=status.signal is not None)
        self._runtime.repeats.log(
            ("began nothing", str(status)),
            logging.ERROR,
            "a worker ended before it began any of its jobs; they go to another worker",
            extra={"how": str(status), "worker_pid": worker.pid, "jobs": len(event.unbegun)},
        )
        if not event.has_read or (job := self._boot_backoff.suspects.died_with(event.unbegun)) is None:
            return
        if self._in_flight.take_out(job):
            how = f"{MOST_DEATHS} workers in a row ended before they began it; the last, {worker.pid}, {status}"
            now = self._runtime.clock.now()
            died = WorkerDied(
                run=Run(started_us=now.wall_us, worker_pid=worker.pid),
                error=ErrorInfo(type="WorkerDied", message=how),
                exit_status=status.code,
                signal=status.signal,
            )
            self._decider.decide(job, died, None, now)

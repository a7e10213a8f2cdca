"""Duty: take in what workers say and how they end, into the books. Effects: ends a worker that has done its last."""

from __future__ import annotations

from mpdispatch.clock import Instant
from mpdispatch.config import Config
from mpdispatch.pool.frames import Wrote
from mpdispatch.pool.kill import reap_strays
from mpdispatch.pool.pool import BootFault, Enqueued, Event, Gone, Ready, Returned, Said, Settled
from mpdispatch.pool.process import WorkerState
from mpdispatch.store.base import Progress
from mpdispatch.supervisor.assign import Assigner
from mpdispatch.supervisor.books import Books
from mpdispatch.supervisor.crew import Crew
from mpdispatch.supervisor.shutdown import Shutdown
from mpdispatch.supervisor.telling import Teller
from mpdispatch.supervisor.turns import Turns

__all__ = ["Hearing"]

_BOOT_TRIES = 3
"""After so many workers in a row that did not start, what was claimed goes back."""


class Hearing:
    """What the pool's events mean to the supervisor."""

    def __init__(
        self,
        crew: Crew,
        config: Config,
        *,
        books: Books,
        assigner: Assigner,
        turns: Turns,
        shutdown: Shutdown,
        teller: Teller | None,
    ) -> None:
        self._crew, self._pool, self._log = crew, crew.pool, crew.log
        self._books, self._assigner, self._turns = books, assigner, turns
        self._shutdown, self._teller = shutdown, teller
        self._max_worker_rss, self._kills_strays = config.max_worker_rss, config.child_policy == "kill"

    def take(self, event: Event, now: Instant) -> bool:
        """Put it into the books. True: jobs came back, and somebody may have asked to cancel one of them."""
        if type(event) is Settled:  # first and plainly: one per job
            self._turns.decide(event.job, event.outcome, event.worker, now)
            if self._max_worker_rss is not None or self._assigner.boot_failures:
                self._look_at_worker(event, now.boot_us)
            return False
        now_us = now.boot_us
        match event:
            case Returned(jobs=jobs):
                self._books.put_back(jobs, now_us)
                return True
            case Said(job_id=job_id, starts=starts, data=data):
                self._books.report(Progress(job_id=job_id, starts=starts, data=data), now_us)
            case Enqueued(events=events, count=count):
                if self._teller is not None:
                    self._teller.told(events, count)
            case Wrote():
                self._books.outputs.add(
                    event.id, event.starts, event.stream, event.text, event.written, now_us=now_us
                )
            case BootFault():
                self._did_not_start(event, now_us)
            case Gone():
                self._ended(event, now_us)
            case Ready():
                pass  # It is among the pool's ready ones by now; whether it can work, its first job tells.
        return False

    def _look_at_worker(self, event: Settled, now_us: int) -> None:
        """A worker that has done a job works; one that has grown too large has done its last."""
        self._assigner.boot_worked()
        limit, run = self._max_worker_rss, getattr(event.outcome, "run", None)
        if limit is not None and run is not None and (run.max_rss_bytes or 0) > limit:
            self._books.put_back(event.worker.recall(), now_us)
            event.worker.retire()

    def _did_not_start(self, event: BootFault, now_us: int) -> None:
        self._assigner.boot_failed(now_us)
        self._log.error("a worker did not start", extra={"reason": event.reason, "traceback": event.traceback})
        if self._assigner.boot_failures >= _BOOT_TRIES and not self._pool.ready:
            self._turns.release_backlog()

    def _ended(self, event: Gone, now_us: int) -> None:
        ending = event.worker.ending
        if (
            event.worker.jobs_sent == 0
            and event.worker.state is not WorkerState.RETIRING
            and ending is not None
            and ending.signal is None
            and not self._shutdown.is_on
        ):
            # It imported the app and ended by itself: as good as not started, or we would start it for ever.
            self._assigner.boot_failed(now_us)
            self._log.error("a worker ended before its first job", extra={"how": str(ending)})
        if self._crew.is_subreaper:
            reap_strays(self._pool.family, kills=self._kills_strays)

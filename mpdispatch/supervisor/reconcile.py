"""Makes the jobs we hold agree with the store: cancels, strays, jobs taken from us. Effects.

Each running row of ours must be in the backlog, at a worker or among the pending outcomes, and no other job may be.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from mpdispatch.model import Cancelled, ErrorInfo, Released
from mpdispatch.pool.assigned import Assignment
from mpdispatch.pool.protocol import Pool, Worker
from mpdispatch.repeated import Repeated
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.supervisor.claimer import Claimer
from mpdispatch.supervisor.deadlines import Deadlines
from mpdispatch.supervisor.decider import Decider
from mpdispatch.supervisor.in_flight import InFlight


@dataclass(slots=True)
class Reconciler:
    """Acts on what the store reports about our jobs."""

    _store: SupervisorStore
    _pool: Pool
    _in_flight: InFlight
    _claimer: Claimer
    _decider: Decider
    _deadlines: Deadlines
    _repeats: Repeated

    def cancel(self, requests: Iterable[tuple[int, int]], now_us: int) -> None:
        """End the jobs with a cancel request: unstarted jobs at once, the others through `Deadlines`."""
        wanted = set(requests)
        if not wanted:
            return
        self._recall(
            [(w, h) for w, h in self._pool.assignments() if (h.job.id, h.job.starts) in wanted], now_us
        )
        kept = []
        for job in self._in_flight.backlog:
            if (job.id, job.starts) in wanted:
                error = ErrorInfo(type="JobCancelled", message="cancelled before it was started")
                self._decider.decide(job, Cancelled(run=None, error=error), None)
            else:
                kept.append(job)
        self._in_flight.keep(kept)
        self._deadlines.cancel(wanted, now_us)

    def reconcile(self, owner: int, owned: Iterable[tuple[int, int]], now_us: int) -> None:
        """Release jobs that only the store counts as ours; drop or kill jobs that only we count as ours.

        `owned`: what the store has just reported as ours. Raises StoreError.
        """
        ours = set(owned)
        self._let_go(ours, now_us)
        held = {(job.id, job.starts) for job in self._in_flight.backlog}
        held.update((item.transition.job_id, item.transition.starts) for item in self._in_flight.pending)
        held.update((each.job.id, each.job.starts) for _, each in self._pool.assignments())
        strays = ours - held
        if not strays:
            return
        self._repeats.log(
            "strays",
            logging.ERROR,
            "the store has jobs of ours that we do not hold; giving them back",
            extra={"count": len(strays)},
        )
        unread = {job_id for job_id, _ in strays}
        for job in self._store.jobs_of(owner):
            if (job.id, job.starts) in strays:
                self._decider.decide(job, Released(), None)
                unread.discard(job.id)
        if unread:
            self._store.upkeep.set_aside(owner, unread)
            self._claimer.try_now()  # the next commit reports them

    def _let_go(self, ours: set[tuple[int, int]], now_us: int) -> None:
        """Give up jobs that are not ours any more: drop unstarted ones, kill the workers of running ones."""
        in_flight = self._in_flight
        taken = [(w, h) for w, h in self._pool.assignments() if (h.job.id, h.job.starts) not in ours]
        self._recall(taken, now_us)
        kept = [job for job in in_flight.backlog if (job.id, job.starts) in ours]
        lost = len(in_flight.backlog) - len(kept)
        in_flight.keep(kept)
        for worker, held in taken:
            if held in worker.assigned:
                worker.drop(held)  # else it might come back as unstarted, and be started
                worker.kill()
                lost += 1
        if lost:
            in_flight.stale(lost)
            self._repeats.log(
                "taken",
                logging.ERROR,
                "jobs were taken from us; what ran of them was killed",
                extra={"count": lost},
            )

    def _recall(self, held: list[tuple[Worker, Assignment]], now_us: int) -> None:
        """Recall the queued jobs of these workers; a worker's first job may be running, so it stays."""
        for worker, each in held:
            if worker.assigned and each is not worker.assigned[0]:
                self._in_flight.put_back(worker.recall(), now_us)

"""Turns the outcomes of held jobs into transitions, and queues them for the next commit. No I/O."""

from __future__ import annotations

import random
from dataclasses import dataclass

from mpdispatch.clock import Clock, Instant
from mpdispatch.execution.catalog import Catalog
from mpdispatch.model import ClaimedJob, Completed, Outcome, Released
from mpdispatch.policy.decide import RetryRules, decide
from mpdispatch.policy.staffing import Estimates
from mpdispatch.pool.protocol import Worker
from mpdispatch.supervisor.in_flight import InFlight

_COMPLETED_RULES = RetryRules()
"""For a completed job, which is not retried."""


@dataclass(slots=True)
class Decider:
    """The loop's thread only."""

    _clock: Clock
    _catalog: Catalog
    _in_flight: InFlight
    _estimates: Estimates

    def decide(
        self, job: ClaimedJob, outcome: Outcome, worker: Worker | None, now: Instant | None = None
    ) -> None:
        """Decide the transition of a job we hold, and queue it for the next commit."""
        if now is None:
            now = self._clock.now()
        rules = _COMPLETED_RULES
        if type(outcome) is Completed:
            self._estimates.add(job.name, outcome.run.duration_us or 0)
        else:
            rules = RetryRules(backoff=self._catalog.backoff_for(job.name))
        transition = decide(job, outcome, rules, now_us=now.wall_us, jitter=random.random())
        self._in_flight.add(job, transition, worker, now)

    def release_backlog(self) -> None:
        """Release every claimed job that is not assigned to a worker."""
        for job in self._in_flight.backlog:
            self.decide(job, Released(), None)
        self._in_flight.keep([])

    def release_rated(self) -> None:
        """Release jobs of rate-limited queues that did not start at once; the next claim costs a token."""
        in_flight = self._in_flight
        if not in_flight.rated.rates or not in_flight.backlog:
            return
        for job in in_flight.backlog:
            if job.queue in in_flight.rated.rates:
                self.decide(job, Released(), None)
        in_flight.keep([job for job in in_flight.backlog if job.queue not in in_flight.rated.rates])

"""Decides when to claim and how many jobs, and takes in the result of a claim. Effects: the log.

```
  wake-up, outcome, room in a queue ─▶ try_now ─┐
  poll interval, job due later ─────────────────┼─▶ wants ─▶ a commit claims ─▶ took ─▶ backlog, next time
  token of a rate-limited queue ────────────────┘
```

The claim itself is part of a commit: one transaction for outcomes and claims.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import msgspec

from mpdispatch.clock import SECOND_US, Instant
from mpdispatch.execution.catalog import Catalog
from mpdispatch.model import ClaimedJob, ClaimRequest, QueueLimit
from mpdispatch.policy.admission import refusal
from mpdispatch.store.values import CommitResult
from mpdispatch.supervisor.assign import Assigner
from mpdispatch.supervisor.in_flight import InFlight
from mpdispatch.supervisor.plan import Plan
from mpdispatch.supervisor.runtime import Runtime


class Claimer:
    """The loop's thread only. Times are boottime µs unless noted."""

    def __init__(self, runtime: Runtime, plan: Plan, in_flight: InFlight, assigner: Assigner, app: str) -> None:
        self._clock, self._repeats = runtime.clock, runtime.repeats
        self._in_flight, self._assigner, self._catalog = in_flight, assigner, plan.catalog
        timeout_s = plan.default_timeout_s
        self._default_timeout_us = None if timeout_s is None else round(timeout_s * SECOND_US)
        self.queues = tuple(plan.config.queues)
        self._request = ClaimRequest(
            queues=self.queues,
            limits={
                each.name: QueueLimit(each.max_concurrency, each.rate_limit, each.rate_burst)
                for each in plan.queue_configs
                if each.name in self.queues
            },
            app=app,
        )
        """The latest request; `request` replaces slots, ready and names."""
        self._poll_us = round(plan.config.poll_interval * SECOND_US)
        self._at_us = 0
        """When the next claim is worth trying; 0: now."""
        self._is_polling = False
        """Whether the next claim finds nothing without a change by another writer or a due scheduled job."""
        self._due_wall_us: int | None = None
        """Wall time at which the next scheduled job is due, if there is one."""
        self.has_more = False
        """Whether more jobs may be due than the last claim took. Written only here."""
        self.parked: dict[str, int] = {}
        """Jobs parked by our claims, by reason. Written only here."""

    # -- when -----------------------------------------------------------------------------------------

    def try_now(self) -> None:
        """Claim as soon as possible: a job may have become due, or a queue may have room again."""
        self._at_us = 0

    @property
    def next_us(self) -> int:
        """When the next claim is worth trying; 0: now."""
        return self._at_us

    def wants(self, now_us: int) -> bool:
        """Whether a claim is due and there is room for jobs."""
        return self.room(now_us)[0] > 0

    def room(self, now_us: int) -> tuple[int, int | None]:
        """How many jobs to claim, and how many would start at once (None: no queue has a rate limit)."""
        rated = self._in_flight.rated
        if not rated.rates:
            return (self._assigner.free_slots(now_us) if now_us >= self._at_us else 0), None
        ready = self._assigner.ready_at_once()
        has_token = rated.token_us is not None and now_us >= rated.token_us
        if now_us < self._at_us and not has_token and not (rated.held_back and ready):
            return 0, ready
        slots = self._assigner.free_slots(now_us)
        if has_token and self._assigner.depth > 1:
            slots = max(slots, 1)  # else busy workers would keep a due rate-limited job from being noticed
        return (max(slots, ready) if rated.held_back else slots), ready

    # -- the result -------------------------------------------------------------------------------------

    def took(self, result: CommitResult, asked_at: Instant) -> None:
        """Put the jobs claimed by a commit at `asked_at` into the backlog, and set when to claim next."""
        rated, now_us = self._in_flight.rated, asked_at.boot_us
        if result.claimed:
            jobs = with_timeouts(result.claimed, self._catalog, self._default_timeout_us)
            self._in_flight.put_back(jobs, now_us)
        if rated.rates:
            rated.claimed(result.claimed)
            rated.answered(result.held_back, result.held_from, now_us)
            rated.token_us = None if result.token_in_us is None else now_us + result.token_in_us
        self.has_more = self._parked_too_early(result.parked) or result.has_more
        self._is_polling = False
        # Kept as wall time, because the wall clock may be set.
        self._due_wall_us = None if result.due_in_us is None else asked_at.wall_us + result.due_in_us
        if self.has_more:
            self._at_us = 0
            return
        at_us = self._next_poll_us(self._clock.now())
        self._is_polling = result.token_in_us is None and not result.held_back
        if result.token_in_us is not None:
            at_us = min(at_us, now_us + result.token_in_us)
        self._at_us = max(at_us, now_us + 1)

    def _parked_too_early(self, parked: Mapping[str, int]) -> bool:
        """Count and report what a claim has parked, by reason. True: some of it can run here by now.

        While a claim waits for the lock, a handler may be registered and its first job stored. The next claim takes it.
        """
        if not parked:
            return False
        new_names = self._catalog.names() - (self._request.names or frozenset())
        outdated = {refusal(self._request, name) for name in new_names}
        for reason, count in parked.items():
            if reason in outdated:
                continue
            self.parked[reason] = self.parked.get(reason, 0) + count
            self._repeats.log(
                ("parked", reason),
                logging.WARNING,
                "parked jobs that cannot run here",
                extra={"reason": reason, "count": count},
                count=count,
            )
        return not outdated.isdisjoint(parked)

    def took_held_back(self, result: CommitResult, asked_at: Instant) -> None:
        """As `took`, for a claim of rate-limited jobs only: `has_more` leaves out other queues."""
        had_more = self.has_more
        self.took(result, asked_at)
        if had_more:
            self.has_more, self._at_us = True, 0

    def wrote(self, count: int) -> None:
        """`count` outcomes were recorded, so a queue at its concurrency limit may have room again."""
        if count and self._request.limited:
            self.try_now()

    def request(self, slots: int, ready: int | None) -> ClaimRequest:
        """A claim of `slots` jobs with the handler names known now; more may be registered later."""
        names = self._catalog.names()
        self._request = msgspec.structs.replace(self._request, slots=slots, ready=ready, names=names)
        return self._request

    # -- polling ----------------------------------------------------------------------------------------

    def is_only_a_poll(self, now: Instant) -> bool:
        """Whether a claim now would find nothing unless another writer has changed something.

        Scheduled jobs become due by the wall clock, which may have been set.
        """
        return (
            self._is_polling
            and self._at_us != 0
            and (self._due_wall_us is None or now.wall_us < self._due_wall_us)
            and self._request.names == self._catalog.names()
        )

    def put_off(self, now: Instant) -> None:
        """Nothing has changed: try again after a poll interval, or when a scheduled job is due."""
        if self._at_us <= now.boot_us:
            self._at_us = self._next_poll_us(now)

    def _next_poll_us(self, now: Instant) -> int:
        poll_us = now.boot_us + self._poll_us
        if self._due_wall_us is None:
            return poll_us
        return min(poll_us, now.boot_us + max(1, self._due_wall_us - now.wall_us))


def with_timeouts(
    jobs: Sequence[ClaimedJob], catalog: Catalog, default_timeout_us: int | None
) -> Sequence[ClaimedJob]:
    """The same jobs; a job without a timeout gets its handler's, else the default."""
    names = {job.name for job in jobs if job.timeout_us is None}
    limits = {name: catalog.timeout_us_for(name) or default_timeout_us for name in names}
    if not any(limits.values()):
        return jobs
    return [
        job if job.timeout_us is not None else msgspec.structs.replace(job, timeout_us=limits[job.name])
        for job in jobs
    ]

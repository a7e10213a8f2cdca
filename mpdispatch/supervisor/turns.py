"""Duty: decide outcomes, write them, and claim more: one transaction a turn. Effects: the store.

Group commit is bounded in time: while every worker has work in its hands, outcomes gather for at most
`_MAX_MANY_DELAY_US`; as soon as one might run dry, or a lone job ends, the turn is taken at once.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Sequence

import msgspec

from mpdispatch.clock import SECOND_US, Clock, Instant
from mpdispatch.config import Config, QueueConfig
from mpdispatch.execution.catalog import Catalog
from mpdispatch.failpoints import failpoint
from mpdispatch.model import Cause, ClaimedJob, Completed, JobState, Outcome, Planner, Released, Run, Transition
from mpdispatch.policy.admission import Admission
from mpdispatch.policy.decide import RetryRules, decide
from mpdispatch.pool.pool import Pool
from mpdispatch.pool.process import WorkerProcess
from mpdispatch.repeated import Repeated
from mpdispatch.store.contract import CommitResult, SupervisorStore
from mpdispatch.supervisor.assign import Assigner
from mpdispatch.supervisor.event_publisher import EventPublisher
from mpdispatch.supervisor.in_flight import InFlight, PendingOutcome

__all__ = ["MAX_BATCH_DELAY_US", "Turns"]

MAX_BATCH_DELAY_US = 4_000
"""Longest a decided outcome waits for company before it goes to disk, and a claim that was not flushed."""
_MAX_MANY_DELAY_US = 8_000
"""The same for several: half as many turns for jobs of a millisecond, which lost a tenth of their time to them."""
_MOST_JOBS = 800
"""Outcomes a turn writes, and jobs it claims, however many workers there are: it holds the write lock for some 15 ms.
Nobody else wants it then; with half as many a fifth of the drain rate was lost."""
_MOST_WHILE_CONTENDED = 40
"""The same while others enqueue as well: one enqueue in a hundred waits 3.5 ms; it was 20 with 800."""
_YIELD_US = 1_000
"""After such a turn, if it did as much as it may: who waits for the lock looks every 0.1 ms, and is let in first."""
_CONTENTION_US, _CONTENTION_WAKE_UPS = 50_000, 4
"""So many knocks that come sooner one after the other than this are a crowd, for as long after the last. Not fewer: who
enqueues a batch or two and resumes a queue wants it drained."""
_NAMED = 10
"""Of rows that cannot be read in one turn, so many are named in the log."""
_NO_RULES = RetryRules()
"""For a completed job, which is not tried again."""
_BECAME = {JobState.FAILED: "failed", JobState.CANCELLED: "was cancelled", JobState.SCHEDULED: "is put off"}


def _said_us(outcome: Outcome, now: Instant) -> int:
    """Boottime at which a worker gave this outcome: it may have lain in its reply_ring for a while."""
    run: Run | None = getattr(outcome, "run", None)
    if run is None or run.duration_us is None:
        return now.boot_us
    age_us = now.wall_us - run.started_us - run.duration_us
    # By the wall clock, which may have been set.
    return now.boot_us - min(max(0, age_us), _MAX_MANY_DELAY_US)


class Turns:
    """What goes to the store and what comes from it."""

    def __init__(
        self,
        store: SupervisorStore,
        clock: Clock,
        config: Config,
        *,
        in_flight: InFlight,
        assigner: Assigner,
        pool: Pool,
        catalog: Catalog,
        queue_configs: tuple[QueueConfig, ...],
        app: str,
        log: logging.Logger,
        repeats: Repeated,
        publisher: EventPublisher | None = None,
        default_timeout_us: int | None = None,
    ) -> None:
        self._store, self._clock, self._log, self._repeats = store, clock, log, repeats
        self._in_flight, self._assigner, self._pool = in_flight, assigner, pool
        self._catalog, self._app = catalog, app
        self._publisher, self._default_timeout_us = publisher, default_timeout_us
        self._queues, self._queue_configs = tuple(config.queues), queue_configs
        self._poll_us = round(config.poll_interval * SECOND_US)
        self._known: frozenset[str] | None = None
        self._planner: Planner | None = None
        self.claim_at_us = 0
        """Boottime from which a claim is worth trying; 0: now."""
        self.has_more = False
        """Whether the last claim took all it might, so that more may be due."""
        self._woken_us = self._wake_ups = self._contended_until_us = 0
        self._yield_until_us = 0
        self.sync_at_us = 0
        """Boottime by which the last claim must be flushed; 0: it is."""
        self.parked: dict[str, int] = {}
        self.is_polling = False
        """Whether nothing but a change by somebody else can make another claim worth while."""
        self._next_due_us: int | None = None

    # -- deciding ---------------------------------------------------------------------------------------

    def decide(
        self, job: ClaimedJob, outcome: Outcome, worker: WorkerProcess | None, now: Instant | None = None
    ) -> None:
        """Put the outcome of a job we hold among those to be written."""
        if now is None:
            now = self._clock.now()
        if not self._in_flight.pending:
            self._in_flight.pending_since_us = _said_us(outcome, now)
        rules = _NO_RULES
        if type(outcome) is Completed:
            self._assigner.estimates.add(job.name, outcome.run.duration_us or 0)
        else:
            rules = RetryRules(backoff=self._catalog.backoff_for(job.name))
        transition = decide(job, outcome, rules, now_us=now.wall_us, jitter=random.random())
        self._in_flight.pending.append(PendingOutcome(job, transition, worker))

    def set_aside(self, owner: int, job_ids: Collection[int]) -> None:
        """End those of these running jobs of ours that cannot be read. Raises StoreError."""
        self._store.set_aside(owner, job_ids, now=self._clock.now())
        self.claim_at_us = 0  # a turn tells of them

    def release_backlog(self) -> None:
        """Give back every claimed job no worker was given."""
        for job in self._in_flight.backlog:
            self.decide(job, Released(), None)
        self._in_flight.backlog = []

    def release_late(self) -> None:
        """Give back jobs of rate-limited queues that were not begun at once: they cost another token."""
        in_flight = self._in_flight
        if not in_flight.rated.rates or not in_flight.backlog:
            return
        for job in in_flight.backlog:
            if job.queue in in_flight.rated.rates:
                self.decide(job, Released(), None)
        in_flight.backlog = [job for job in in_flight.backlog if job.queue not in in_flight.rated.rates]

    def woken(self, now_us: int) -> None:
        """Somebody has enqueued something, or so it seems: a claim is worth trying, and the store is to be shared."""
        self.claim_at_us = 0
        self._wake_ups = self._wake_ups + 1 if now_us - self._woken_us < _CONTENTION_US else 1
        if self._wake_ups >= _CONTENTION_WAKE_UPS:
            self._contended_until_us = now_us + _CONTENTION_US
        self._woken_us = now_us

    # -- the turn ---------------------------------------------------------------------------------------

    def take(self, owner: int, now_us: int, *, may_claim: bool, skip_idle_check: bool = False) -> None:
        """Write what was decided and, if there is room, claim more: one transaction.

        `skip_idle_check`: somebody has just enqueued something.

        Raises StoreError, LeaseLostError: nothing was written and nothing is lost here.
        """
        in_flight = self._in_flight
        most = _MOST_WHILE_CONTENDED if now_us < self._contended_until_us else _MOST_JOBS
        slots, ready = self._room(now_us) if may_claim else (0, None)
        slots = min(slots, most)
        items = in_flight.pending[:most]
        transitions = [item.transition for item in items]
        settled = [(each.job_id, each.starts) for each in transitions] if in_flight.outputs else []
        outputs = in_flight.outputs.due(now_us, settled)
        if not (transitions or in_flight.progress or outputs or slots):
            return
        failpoint("commit.before")
        is_synced = bool(transitions or in_flight.progress or outputs)
        turn = self._store.commit(
            owner,
            transitions,
            now=self._clock.now(),
            planner=self.planner() if slots else None,
            slots=slots,
            # A commit that waits for the disk is no moment to charge a token.
            ready=0 if is_synced and ready is not None else ready,
            progress=list(in_flight.progress.values()),
            outputs=outputs,
            skip_idle_check=skip_idle_check and slots > 0,
        )
        if most == _MOST_WHILE_CONTENDED and most in (len(items), len(turn.claimed)):
            self._yield_until_us = self._clock.now().boot_us + _YIELD_US
        if is_synced:
            self.sync_at_us = 0  # that commit waited for the disk, and with it all before
        in_flight.outputs.written(outputs, settled, now_us)
        if turn.ended:
            self._ended(turn.ended)
        self._written(items, turn)
        if slots:
            self._claimed(turn, now_us)
        if not turn.is_synced:
            # Last: a flush that fails must not make us forget what is committed.
            self._flush_soon(turn)
        if in_flight.rated.held_back and is_synced and slots:
            self._claim_held_back(owner, now_us)
        if in_flight.rated.permits:
            self._assigner.assign(self._clock.now().boot_us)

    def _room(self, now_us: int) -> tuple[int, int | None]:
        """How many jobs there is a place for, and how many of them would be begun at once (None: nobody asks)."""
        rated = self._in_flight.rated
        if not rated.rates:
            return (self._assigner.free_slots(now_us) if now_us >= self.claim_at_us else 0), None
        ready = self._assigner.ready_at_once()
        has_token = rated.token_us is not None and now_us >= rated.token_us
        if now_us < self.claim_at_us and not has_token and not (rated.held_back and ready):
            return 0, ready
        slots = self._assigner.free_slots(now_us)
        if has_token and self._assigner.depth > 1:
            slots = max(slots, 1)  # with workers that never run dry it would not be seen whose turn it is
        return (max(slots, ready) if rated.held_back else slots), ready

    def _claim_held_back(self, owner: int, now_us: int) -> None:
        """Claim jobs of rate-limited queues for workers that wait, in a transaction of its own: it is not flushed."""
        slots, ready = self._room(now_us)
        if not ready:
            return
        had_more = self.has_more
        turn = self._store.commit(
            owner, [], now=self._clock.now(), planner=self.planner(), slots=min(slots, _MOST_JOBS), ready=ready
        )
        if turn.ended:
            self._ended(turn.ended)
        self._claimed(turn, now_us)
        if had_more:
            self.has_more, self.claim_at_us = True, 0
        if not turn.is_synced:
            self._flush_soon(turn)

    def _flush_soon(self, turn: CommitResult) -> None:
        """A claim alone need not wait for the disk: a power cut in the next moments may forget that first start.

        It must not, where that would be a start too many: nothing is started twice that may start only once.
        """
        if all(job.starts == 1 and job.max_retries > 0 for job in turn.claimed):
            # No later for another claim than for the one before it.
            self.sync_at_us = self.sync_at_us or self._clock.now().boot_us + MAX_BATCH_DELAY_US
        else:
            self._store.file_care.sync()
            self.sync_at_us = 0

    def sync_if_due(self, now_us: int) -> None:
        """Flush what was claimed and not flushed, unless a turn has done so since."""
        if self.sync_at_us and now_us >= self.sync_at_us:
            self._store.file_care.sync()
            self.sync_at_us = 0

    def _written(self, items: Sequence[PendingOutcome], turn: CommitResult) -> None:
        in_flight = self._in_flight
        rejected = set(turn.rejected)
        for item in items:
            transition = item.transition
            if rejected and (transition.job_id, transition.starts) in rejected:
                in_flight.stale_writes += 1
                self._repeats.say(
                    "stale",
                    logging.WARNING,
                    "dropped the outcome of a job that is not ours any more",
                    extra={"job": transition.job_id},
                )
            elif transition.state is JobState.COMPLETED:
                in_flight.completed += 1
            elif transition.state is JobState.FAILED:
                in_flight.failed += 1
            if self._publisher is not None:
                self._report(item, turn)
            if transition.cause is not Cause.COMPLETED:
                self._tell(item, turn)
                # What was put off or given back may be due before the next poll.
                self.claim_at_us = 0
        if items and self._planner is not None and self._planner.limited:
            self.claim_at_us = 0  # a queue at its limit has room again
        if self._publisher is not None:
            self._publisher.flush()
        if items or in_flight.progress:
            in_flight.written(len(items))
            self._pool.free_records()

    def _ended(self, ended: Sequence[tuple[ClaimedJob, Transition]]) -> None:
        """The store has ended jobs whose rows cannot be read."""
        self._in_flight.failed += len(ended)
        for job, transition in ended:
            if self._publisher is not None:
                self._publisher.recorded(job, transition)
        if self._publisher is not None:
            self._publisher.flush()
        for _, transition in ended[:_NAMED]:
            self._log.error("a row of the store cannot be read, so its job failed: %s", transition.error)
        if len(ended) > _NAMED:
            self._log.error("and %d more rows that cannot be read", len(ended) - _NAMED)

    def _report(self, item: PendingOutcome, turn: CommitResult) -> None:
        """Tell extensions what became of a job, if it became what was decided."""
        token = (item.transition.job_id, item.transition.starts)
        if self._publisher is not None and token not in turn.rejected:
            transition = item.transition
            if token in turn.cancelled:
                transition = msgspec.structs.replace(transition, state=JobState.CANCELLED)
            self._publisher.recorded(item.job, transition)

    def _tell(self, item: PendingOutcome, turn: CommitResult) -> None:
        transition = item.transition
        if transition.cause is Cause.RELEASED:
            return
        state = transition.state
        if (transition.job_id, transition.starts) in turn.cancelled:
            state = JobState.CANCELLED
        # All in the text: without our own formatter nobody sees more.
        self._log.log(
            logging.WARNING if transition.error is not None else logging.DEBUG,
            "job %d (%s) %s: %s",
            transition.job_id,
            item.job.name,
            _BECAME.get(state, "runs again"),
            transition.error or transition.cause.value,
            extra={"cause": transition.cause.value, "attempt": item.job.attempt},
        )

    def _claimed(self, turn: CommitResult, now_us: int) -> None:
        rated = self._in_flight.rated
        if turn.claimed:
            self._in_flight.put_back(self._with_timeouts(turn.claimed), now_us)
        if rated.rates:
            rated.claimed(turn.claimed)
            rated.answered(turn.held_back, turn.held_from, now_us)
            rated.token_us = turn.next_token_us
        for reason, count in turn.parked.items():
            self.parked[reason] = self.parked.get(reason, 0) + count
            self._repeats.say(
                ("parked", reason),
                logging.WARNING,
                "parked jobs that cannot run here",
                extra={"reason": reason, "count": count},
                count=count,
            )
        self.has_more = turn.has_more
        self.is_polling, self._next_due_us = False, turn.next_due_us
        if turn.has_more:
            self.claim_at_us = 0
            return
        due = self._next_look_us(self._clock.now())
        self.is_polling = turn.next_token_us is None and not turn.held_back
        if turn.next_token_us is not None:
            due = min(due, turn.next_token_us)
        self.claim_at_us = max(due, now_us + 1)

    def _with_timeouts(self, jobs: Sequence[ClaimedJob]) -> Sequence[ClaimedJob]:
        """The same; those without a timeout have their handler's, else the default."""
        names = {job.name for job in jobs if job.timeout_us is None}
        limits = {name: self._catalog.timeout_us_for(name) or self._default_timeout_us for name in names}
        if not any(limits.values()):
            return jobs
        return [
            job if job.timeout_us is not None else msgspec.structs.replace(job, timeout_us=limits[job.name])
            for job in jobs
        ]

    def planner(self) -> Planner:
        """Limits and known names as of now: handlers may be registered while we run."""
        known = self._catalog.names()
        if self._planner is None or known != self._known:
            self._known = known
            self._planner = Admission(
                queues=self._queues,
                configs=self._queue_configs,
                known=known,
                app=self._app,
                # While the claim waits for the lock a handler may be registered and its first job stored.
                has_come=lambda name: name in self._catalog.names(),
            )
        return self._planner

    # -- polling ----------------------------------------------------------------------------------------

    def is_only_a_poll(self, now: Instant) -> bool:
        """Whether a claim now could find nothing, unless somebody else has changed something.

        A job that is due later is due by the wall clock, which may have been set.
        """
        in_flight = self._in_flight
        return (
            self.is_polling
            and self.claim_at_us != 0
            and not (in_flight.pending or in_flight.progress or in_flight.backlog)
            and in_flight.outputs.next_us is None
            and (self._next_due_us is None or now.wall_us < self._next_due_us)
            and self._known == self._catalog.names()
        )

    def put_off(self, now: Instant) -> None:
        """Nothing has changed: look again after another poll interval, or when a job is due."""
        if self.claim_at_us <= now.boot_us:
            self.claim_at_us = self._next_look_us(now)

    def _next_look_us(self, now: Instant) -> int:
        poll_us = now.boot_us + self._poll_us
        if self._next_due_us is None:
            return poll_us
        return min(poll_us, now.boot_us + max(1, self._next_due_us - now.wall_us))

    # -- when -------------------------------------------------------------------------------------------

    def wants_claim(self, now_us: int) -> bool:
        """Whether a claim is due, and there is room for what it may find."""
        return self._room(now_us)[0] > 0

    def delay_us(self, now_us: int) -> int:
        """How long the next turn may wait, for company if nobody runs dry meanwhile, and for a crowd; 0: not at all."""
        if (at := self._in_flight.outputs.next_us) is not None and at <= now_us:
            return 0
        if self._in_flight.rated.held_back and self._assigner.ready_at_once():
            return 0
        pause = self._yield_until_us - now_us
        rest = self._assigner.least_load()
        if rest < MAX_BATCH_DELAY_US // 2:
            return max(0, pause)
        pending = self._in_flight.pending
        most = MAX_BATCH_DELAY_US if len(pending) <= 1 else _MAX_MANY_DELAY_US
        waited = now_us - self._in_flight.pending_since_us if pending else 0
        if self._in_flight.progress:
            waited = max(waited, now_us - self._in_flight.progress_since_us)
        return max(0, pause, min(rest // 2, most - waited))

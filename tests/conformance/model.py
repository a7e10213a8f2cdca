"""The rules of a store, over dicts and lists: the specification that every store is compared with.

                  ┌─────────── cancelled (by request) ◀──────────┐
    enqueue ─▶ scheduled ──stage──▶ pending ──claim──▶ running ──┼─▶ completed ──▶ pruned
               retrying ──stage──▶   │  ▲               │        ├─▶ cancelled ──▶ pruned  (as a job that expired)
                  ▲                park known           │        └─▶ failed, with a dead letter
                  │                  ▼  │               │                │ replayed or purged ──▶ pruned
                  │                blocked              │
                  └─── an outcome that runs it again ◀──┘

A `Model` has the methods of both faces of `mpdispatch.store.contract`, with the same names, arguments and answers. It
leaves out what is no rule about jobs: opening, durability, locks, wake-ups, checkpoints, rows that somebody else made
unreadable, and the caps that only keep a transaction short (1000 jobs are staged, parked or counted at once).
The rules of batches and of jobs that wait for others are in `model_batches`, those of cron entries in `model_crons`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from mpdispatch.clock import Clock, Instant
from mpdispatch.errors import (
    DeadLetterNotFoundError,
    InvalidStateError,
    JobNotFoundError,
    LeaseLostError,
)
from mpdispatch.model import (
    Attempt,
    Cause,
    ClaimedJob,
    ClaimFacts,
    ClaimPlan,
    ClaimRequest,
    DeadLetter,
    Enqueued,
    Job,
    JobState,
    NewBatch,
    NewJob,
    NewSupervisor,
    Output,
    Page,
    Parent,
    PeerSupervisor,
    Run,
    Transition,
)
from mpdispatch.model.failure import Failure
from mpdispatch.policy import admission
from mpdispatch.policy.expiry import expired, has_expired
from mpdispatch.policy.waits import STEP_US, rebased_us
from mpdispatch.store.filters import DeadLetterFilter, JobFilter, PruneFilter
from mpdispatch.store.values import (
    NO_REPORTS,
    CommitResult,
    Dependents,
    HeldJob,
    LeftBehind,
    OtherOwners,
    Outstanding,
    Pruned,
    PruneStep,
    QueueState,
    QueueStats,
    Renewal,
    Reports,
    Retention,
    UpkeepStep,
)

from .model_batches import Batches, Followed, plain_batch
from .model_crons import Crons
from .rows import Letter, Row, Start, attempts_of, claimed_job_of, failure_of, job_of, letter_of, page_of, tally

__all__ = ["Model", "Upkeep"]

_WAITING_FOR_OTHERS = "waiting for other jobs"
LATER = (JobState.SCHEDULED, JobState.RETRYING)


@dataclass
class Registration:
    """A supervisor's row."""

    who: NewSupervisor
    started_us: int
    renewed: Instant
    """Its last heartbeat."""
    ttl_us: int


@dataclass
class Claim:
    """What a claim did."""

    taken: list[Row] = field(default_factory=list)
    parked: list[Row] = field(default_factory=list)
    expired: list[tuple[ClaimedJob, Transition]] = field(default_factory=list)
    followed: Followed = field(default_factory=Followed)
    """What followed from the end of those."""
    held_back: list[Row] = field(default_factory=list)
    """Of rate-limited queues: they have a token, and want for nothing but a worker that is ready."""
    has_more: bool = False


class Model:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: dict[int, Row] = {}
        self._last_id = self._last_letter = self._last_owner = 0
        self._letters: dict[int, Letter] = {}
        """By the id of the job."""
        self._is_paused: dict[str, bool] = {}
        """By queue, for those somebody paused, resumed or took a token from."""
        self._buckets: dict[str, int] = {}
        self._supervisors: dict[int, Registration] = {}
        self._followed = Followed()
        """What followed from ends that the store decided itself, and was not reported yet."""
        self.upkeep = Upkeep(self)
        self.batches = Batches(self)
        self.crons = Crons(self)

    # ------------------------------------------------------------------------------------ enqueue

    def enqueue(self, job: NewJob, *, is_synced: bool = True) -> Job:
        # `is_synced` is about power cuts, which have no place here.
        with self._all_or_nothing():
            return self._enqueue(job)

    def _enqueue(self, job: NewJob) -> Job:
        last_id = self._last_id
        row = self._enqueued(job)
        if row.id <= last_id:
            return self._job(row, created=False)
        if job.after:
            return self._job(row)
        # An enqueue does not look whether the queue is paused; `get` does.
        return msgspec.structs.replace(self._job(row), blocked_reason=None)

    def enqueue_many(
        self, jobs: Sequence[NewJob], *, batch: NewBatch | int | None = None, closes: bool = True
    ) -> Enqueued:
        if batch is None and not jobs:
            return Enqueued(None, [])
        with self._all_or_nothing():
            if not isinstance(batch, int):
                batch = self.batches.open(batch or plain_batch(jobs)).id
            # A job that is there already stays in its own batch.
            members = [msgspec.structs.replace(job, batch_id=batch) for job in jobs]
            ids = [self._enqueued(job).id for job in members]
            if closes:
                self.batches.close(batch)
            return Enqueued(batch, ids)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        rows, last_id = {**self._rows}, self._last_id
        try:
            with self.batches.all_or_nothing():
                yield
        except Exception:
            self._rows, self._last_id = rows, last_id
            raise

    def _enqueued(self, job: NewJob) -> Row:
        # A key belongs to one job of this name until that job is pruned, whether it has ended or not.
        key = (job.name, job.idempotency_key)
        older = self._first(lambda row: (row.new.name, row.new.idempotency_key) == key)
        return older if job.idempotency_key is not None and older else self._insert(job)

    def _insert(self, new: NewJob) -> Row:
        row = self._new_row(new)
        self.batches.add(row)
        return row

    def _new_row(self, new: NewJob) -> Row:
        now_us = self._clock.now().wall_us
        run_at_us = now_us + new.delay_us if new.run_at_us is None else new.run_at_us
        # An id is never used again, even if its job was pruned.
        self._last_id += 1
        row = Row(
            id=self._last_id,
            new=new,
            state=JobState.PENDING if run_at_us <= now_us else JobState.SCHEDULED,
            run_at_us=run_at_us,
            expires_at_us=new.expiry_us(now_us),
            created_at_us=now_us,
        )
        self._rows[row.id] = row
        return row

    # ------------------------------------------------------------------------------------ what people do

    def cancel(self, job_id: int) -> Job:
        row = self._row(job_id)
        if row.state.is_terminal:
            raise InvalidStateError(job_id, row.state, "only a job that has not ended can be cancelled")
        if row.state is JobState.RUNNING:
            row.is_cancel_requested = True  # only its supervisor can end it
        else:
            self._end_waiting(row)
            self.batches.follow_up([row])
        return self._job(row)

    def _end_waiting(self, row: Row) -> None:
        """Cancel a job that waits; what follows is the caller's."""
        row.state, row.completed_at_us = JobState.CANCELLED, self._now.wall_us
        row.blocked_reason = row.expires_at_us = None
        row.open_parents = set()

    def retry(self, job_id: int) -> Job:
        row = self._rows.get(job_id)
        if row is not None and row.state in LATER:
            row.state, row.run_at_us = JobState.PENDING, self._clock.now().wall_us
            return self._job(row)
        job = self._enqueue_again(job_id)
        if job is None:
            raise InvalidStateError(job_id, self.state_of(job_id), "it is pending, running or completed")
        return job

    def retry_many(self, job_ids: Sequence[int]) -> tuple[list[Job], dict[int, str]]:
        # Whoever selects very many means those that nobody has seen to meanwhile.
        jobs = [self.retry(job_id) for job_id in dict.fromkeys(job_ids) if self._may_run_again(job_id)]
        return [job for job in jobs if job.created], {}

    def _may_run_again(self, job_id: int) -> bool:
        row, letter = self._rows.get(job_id), self._letters.get(job_id)
        if row is None:
            return False
        if row.state is JobState.CANCELLED:
            return row.retried_as is None
        return row.state in LATER or (letter is not None and letter.closed_at_us is None)

    def replay(self, job_id: int) -> Job:
        self.dead_letter(job_id)
        job = self._enqueue_again(job_id)
        assert job is not None, "a job with a dead letter has failed"
        return job

    def _enqueue_again(self, job_id: int) -> Job | None:
        """A new job like this ended one, once: later calls give that job, even if the old one is pruned by then."""
        before = self._first(lambda row: row.new.retried_from == job_id)
        if before is not None:
            return self._job(before, created=False)
        old = self._rows.get(job_id)
        if old is None or old.state not in (JobState.FAILED, JobState.CANCELLED):
            return None
        # The idempotency key stays with the old job: a key names one. Its place in a batch goes to the new one.
        new = msgspec.structs.replace(
            old.new,
            run_at_us=None,
            delay_us=0,
            expires_at_us=None,
            expires_us=None,
            idempotency_key=None,
            after=(),
            retried_from=job_id,
        )
        if new.on_parent_failure == "cancel":
            # Whoever enqueues a job again that was cancelled for a parent wants it to wait for that one's retry.
            new = msgspec.structs.replace(new, on_parent_failure="wait")
        made = self._new_row(new)
        self.batches.replaced(old, made)
        old.retried_as = made.id
        self.batches.wait_again(old, made)
        letter = self._letters.get(job_id)
        if letter is not None and letter.closed_at_us is None:
            letter.replayed_at_us = letter.closed_at_us = self._clock.now().wall_us
            letter.replayed_as = made.id
        self.crons.retried(job_id, made.id)
        return self._job(made)

    def set_paused(self, queue: str, paused: bool) -> None:
        # Nothing of a paused queue is claimed; what runs goes on.
        self._is_paused[queue] = paused

    def prune(self, where: PruneFilter, *, dry_run: bool = False) -> Pruned:
        """Removes all that is kept of a job, so its idempotency key is free."""
        settled = self._settled(where.state)
        old = [
            row
            for row in settled[: max(0, len(settled) - (where.keep or 0))]
            if where.ended_before_us is None or (row.completed_at_us or 0) < where.ended_before_us
            if not self._is_kept(row)
        ]
        if not dry_run:
            self._remove(old)
            self.batches.prune(where.ended_before_us)
        stay = [
            letter
            for letter in self._matching(
                DeadLetterFilter(is_replayed=False, failed_before_us=where.ended_before_us)
            )
            if where.state in (None, letter.row.state)
        ]
        return Pruned(Counter(row.state for row in old), len(stay))

    def _prune_by_age(self, retention: Retention) -> int:
        now_us = self._clock.now().wall_us

        def is_old(row: Row) -> bool:
            age_us = retention.failed_us if row.state is JobState.FAILED else retention.ended_us
            return age_us is not None and self._settled_at(row)[0] < now_us - age_us

        before = len(self._rows)
        self._remove([row for row in self._settled(None) if is_old(row) and not self._is_kept(row)])
        if retention.limit is not None:
            self._remove([row for row in self._settled(None)[: -retention.limit] if not self._is_kept(row)])
        if retention.ended_us is not None:
            self.batches.prune(now_us - retention.ended_us)
        elif retention.limit is not None:
            self.batches.prune(None)
        return before - len(self._rows)

    def _is_kept(self, row: Row) -> bool:
        """Whether somebody is yet to see how this job ended: a cron entry, or a dependent."""
        return self.crons.keeps(row.id) or self.batches.keeps(row.id)

    def _settled(self, state: JobState | None) -> list[Row]:
        """Jobs that nobody needs to see to any more, the first to have ended first. A failed job is none while its dead
        letter is neither replayed nor purged, and then counts from that moment."""
        found = [
            row
            for row in self._rows.values()
            if row.state.is_terminal
            and state in (None, row.state)
            and (row.state is not JobState.FAILED or self._letters[row.id].closed_at_us is not None)
        ]
        return sorted(found, key=self._settled_at)

    def _settled_at(self, row: Row) -> tuple[int, bool, int]:
        letter = self._letters.get(row.id)
        if letter is None:
            return row.completed_at_us or 0, False, row.id
        return letter.closed_at_us or 0, True, letter.number

    def _remove(self, rows: Iterable[Row]) -> None:
        for row in rows:
            del self._rows[row.id]
            self._letters.pop(row.id, None)

    # ------------------------------------------------------------------------------------ dead letters

    def dead_letter(self, job_id: int) -> DeadLetter:
        letter = self._letters.get(job_id)
        if letter is None or letter.is_purged:
            raise DeadLetterNotFoundError(job_id)
        return letter_of(letter, self._job(letter.row))

    def dead_letters(self, where: DeadLetterFilter, *, limit: int, cursor: str | None) -> Page[DeadLetter]:
        found = reversed(self._matching(where))
        return page_of([(each.number, self.dead_letter(each.row.id)) for each in found], limit, cursor)

    def failures(self, where: DeadLetterFilter, *, limit: int, cursor: str | None) -> Page[Failure]:
        found = reversed(self._matching(where))
        return page_of([(each.number, failure_of(each)) for each in found], limit, cursor)

    def dead_letter_count(self, queue: str | None = None) -> int:
        return len(self._matching(DeadLetterFilter(queue=queue, is_replayed=False)))

    def purge_dead_letters(self, where: DeadLetterFilter) -> int:
        # Their jobs stay, as failed; now they may be pruned. A replayed one was dealt with when it was replayed.
        purged = self._matching(where)
        for letter in purged:
            letter.is_purged = True
            if letter.closed_at_us is None:
                letter.closed_at_us = self._clock.now().wall_us
        return len(purged)

    def _matching(self, where: DeadLetterFilter) -> list[Letter]:
        return [
            each
            for each in self._letters.values()
            if not each.is_purged
            and where.queue in (None, each.row.new.queue)
            and where.name in (None, each.row.new.name)
            and where.is_replayed in (None, each.is_replayed)
            and (where.failed_before_us is None or each.failed_at_us < where.failed_before_us)
            and where.batch_id in (None, each.row.new.batch_id)
            and (where.error is None or where.error in str(each.row.last_error or ""))
        ]

    # ------------------------------------------------------------------------------------ reading

    def get(self, job_id: int) -> Job:
        return self._job(self._row(job_id))

    def state_of(self, job_id: int) -> JobState:
        return self._row(job_id).state

    def ended(self, job_ids: Collection[int]) -> dict[int, JobState | None]:
        states = {job_id: row.state if (row := self._rows.get(job_id)) else None for job_id in job_ids}
        return {job_id: state for job_id, state in states.items() if state is None or state.is_terminal}

    def attempts(self, job_id: int) -> list[Attempt]:
        return attempts_of(self._row(job_id))

    def outputs(self, job_id: int) -> list[Output]:
        return [output for _, output in sorted(self._row(job_id).outputs.items())]

    def list_jobs(self, where: JobFilter, *, limit: int, cursor: str | None) -> Page[Job]:
        found = (
            row
            for row in reversed(self._rows.values())
            if where.state in (None, row.state)
            and where.queue in (None, row.new.queue)
            and where.name in (None, row.new.name)
            # The job that has taken the place of another is the member.
            and (where.batch_id is None or (row.new.batch_id == where.batch_id and row.retried_as is None))
        )
        return page_of([(row.id, self._job(row)) for row in found], limit, cursor)

    def counts(self) -> dict[JobState, int]:
        # A failure that was enqueued again is none any more.
        states = [row.state for row in self._rows.values() if not row.is_dealt_with]
        return {state: states.count(state) for state in JobState}

    def queue_stats(self) -> list[QueueStats]:
        def jobs(queue: str) -> dict[str, int]:
            rows = [row for row in self._rows.values() if row.new.queue == queue]
            states = [row.state for row in rows if not row.is_dealt_with]
            return {str(state): states.count(state) for state in JobState}

        queues = sorted({*self._is_paused, *(row.new.queue for row in self._rows.values())})
        return [
            QueueStats(name=each, is_paused=self._is_paused.get(each, False), jobs=jobs(each))
            for each in queues
        ]

    def parked(self) -> dict[str, int]:
        return tally(
            _WAITING_FOR_OTHERS if row.open_parents else row.blocked_reason for row in self._rows.values()
        )

    def parents(self, job_id: int) -> list[Parent]:
        return self.batches.parents(job_id)

    def awaited(self, job_id: int) -> list[Parent]:
        return self.batches.awaited(job_id)

    def dependents(self, job_id: int) -> Dependents:
        return self.batches.dependents(job_id)

    def ahead(self, job_id: int) -> int:
        row = self._rows.get(job_id)
        if row is None or not row.is_due:
            return 0
        return self._count(
            lambda each: each.is_due and each.new.queue == row.new.queue and each.place < row.place
        )

    def queue_state(self, queue: str) -> QueueState:
        running = self._count(lambda row: row.state is JobState.RUNNING and row.new.queue == queue)
        return QueueState(
            self._is_paused.get(queue, False), running, self._buckets.get(queue), self._clock.now().boot_us
        )

    # ------------------------------------------------------------------------------------ supervisors

    def register(self, who: NewSupervisor, ttl_us: int) -> int:
        # A new id each time: one that lost its registration can never write under it again.
        self._last_owner += 1
        now = self._clock.now()
        self._supervisors[self._last_owner] = Registration(who, now.wall_us, now, ttl_us)
        return self._last_owner

    def unregister(self, owner: int) -> None:
        self._supervisors.pop(owner, None)

    def renew(self, owner: int, ttl_us: int) -> Renewal:
        # Even after its time: a lease ends when somebody takes over. Until then nobody else has touched its jobs.
        registration = self._registered(owner)
        registration.renewed, registration.ttl_us = self._clock.now(), ttl_us
        return Renewal(owned=tuple(row.start for row in self._owned(owner)))

    def supervisors(self) -> list[PeerSupervisor]:
        # A lease runs by a clock that nobody sets: it does not matter here by how much the wall clock jumps.
        now_us = self._clock.now().boot_us
        return [
            PeerSupervisor(
                **msgspec.structs.asdict(each.who),
                id=owner,
                started_us=each.started_us,
                heartbeat_us=each.renewed.wall_us,
                lease_left_us=each.renewed.boot_us + each.ttl_us - now_us,
                renewed=each.renewed.boot_us,
            )
            for owner, each in self._supervisors.items()
        ]

    def held_by(self, owner: int) -> list[HeldJob]:
        return [HeldJob(row.id, row.starts, row.new.name) for row in self._owned(owner)]

    def peers(self, owner: int) -> OtherOwners:
        # Jobs of an owner without a registration stay as they are until somebody takes over. Only a registered one
        # may write to a job in a commit.
        owners = {row.owner for row in self._rows.values() if row.owner is not None}
        return OtherOwners(
            [each for each in self.supervisors() if each.id != owner],
            sorted(owners - self._supervisors.keys() - {owner}),
        )

    def cancel_requests(self, owner: int) -> list[Start]:
        return [row.start for row in self._owned(owner) if row.is_cancel_requested]

    def jobs_of(self, owner: int) -> list[ClaimedJob]:
        return [claimed_job_of(row) for row in self._owned(owner)]

    def take_over(self, dead: PeerSupervisor | int, transitions: Sequence[Transition]) -> bool:
        """All or nothing: refused if it has renewed since `dead` was read, or if one of its jobs would be left over.

        `dead` as a number: of one that is not registered and has jobs.
        """
        if isinstance(dead, int):
            owner, is_as_seen = dead, dead not in self._supervisors and bool(self._owned(dead))
        else:
            owner = dead.id
            is_as_seen = dead.renewed in [each.renewed for each in self.supervisors() if each.id == owner]
        covered = {(each.job_id, each.starts) for each in transitions}
        if not is_as_seen or not covered.issuperset(row.start for row in self._owned(owner)):
            return False
        self._report([], self._record(owner, transitions)[2])
        self.unregister(owner)
        return True

    def _registered(self, owner: int) -> Registration:
        if owner not in self._supervisors:
            raise LeaseLostError(owner)
        return self._supervisors[owner]

    def _owned(self, owner: int) -> list[Row]:
        return [row for row in self._rows.values() if row.owner == owner]

    # ------------------------------------------------------------------------------------ a commit

    def commit(
        self,
        owner: int,
        transitions: Sequence[Transition],
        reports: Reports = NO_REPORTS,
        *,
        claim: ClaimRequest | None = None,
        skip_idle_check: bool = False,
    ) -> CommitResult:
        """Record, then stage, then claim: what an outcome gives back may be claimed by the same commit."""
        self._registered(owner)
        for report in reports.progress:
            if (row := self._running(owner, report.job_id, report.starts)) is not None:
                row.progress = report.data
        for output in reports.outputs:
            if (row := self._running(owner, output.job_id, output.starts)) is not None:
                row.outputs[output.starts, output.stream] = output
        rejected, cancelled, followed = self._record(owner, transitions)
        is_writing = bool(transitions or reports)
        made = Claim()
        due_in_us = token_in_us = None
        now = self._clock.now()
        if claim is not None:
            is_any_staged = self._stage(claim.queues, now)
            may_look_first = not (is_writing or skip_idle_check or is_any_staged)
            made = self._claim(owner, claim, now, may_look_first)
            due_in_us = None if made.has_more else self._due_in_us(claim.queues, now)
            token_in_us = self._token_in_us(claim, now)
        before, self._followed = self._followed, Followed()
        return CommitResult(
            claimed=[claimed_job_of(row) for row in made.taken],
            rejected=rejected,
            cancelled=cancelled,
            parked=tally(row.blocked_reason for row in made.parked),
            has_more=made.has_more,
            due_in_us=due_in_us,
            token_in_us=token_in_us,
            held_back=tally(row.new.queue for row in made.held_back),
            held_from=made.held_back[0].place if made.held_back else None,
            # A claim undone by a power cut is only claimed again; an outcome has to last.
            is_synced=not made.taken or is_writing,
            ended=[*before.ended, *followed.ended, *made.expired, *made.followed.ended],
            enqueued=[*before.callbacks, *followed.callbacks, *made.followed.callbacks],
        )

    def _running(self, owner: int, job_id: int, starts: int) -> Row | None:
        """The fence: only the start that runs now, in the name of its owner, may write to a job."""
        row = self._rows.get(job_id)
        return row if row is not None and (row.owner, row.starts) == (owner, starts) else None

    # -- record

    def _record(
        self, owner: int, transitions: Iterable[Transition]
    ) -> tuple[list[Start], list[Start], Followed]:
        """The starts whose outcomes came too late, the starts whose jobs were cancelled instead of run again, and what
        followed."""
        rejected, cancelled, ended = list[Start](), list[Start](), list[Row]()
        for each in transitions:
            row = self._running(owner, each.job_id, each.starts)
            if row is None:
                rejected.append((each.job_id, each.starts))
                continue
            # A request to cancel must not be lost when the job would run again. A job that ended keeps its outcome.
            is_cancelled = row.is_cancel_requested and not each.state.is_terminal
            if is_cancelled:
                cancelled.append(row.start)
            self._finish(row, each, JobState.CANCELLED if is_cancelled else each.state)
            if row.state.is_terminal:
                ended.append(row)
        return rejected, cancelled, self.batches.follow_up(ended)

    def _finish(self, row: Row, ended: Transition, state: JobState) -> None:
        row.state = state
        row.owner, row.is_cancel_requested = None, False
        row.completed_at_us = ended.at_us if state.is_terminal else None
        row.attempt = ended.attempt
        row.run_at_us = row.run_at_us if ended.run_at_us is None else ended.run_at_us
        row.run, row.result = ended.run, ended.result
        row.last_error = ended.error or row.last_error
        if ended.run is not None:
            row.history.append((ended, ended.run))
        if ended.run is not None or state.is_terminal:
            row.expires_at_us = None  # from now on it may be late
        # A start whose handler was not called leaves no trace but `starts`, and that it expired.
        row.started_at_us = row.history[-1][1].started_us if row.history else None
        if ended.cause is Cause.EXPIRED:
            row.history.append((ended, Run(started_us=ended.at_us)))
        if state is JobState.FAILED:
            self._last_letter += 1
            self._letters[row.id] = Letter(number=self._last_letter, row=row, failed_at_us=ended.at_us)

    # -- stage and claim

    def _stage(self, queues: Sequence[str], now: Instant) -> bool:
        """Whether anything was."""
        due = [row for row in self._of(queues) if row.state in LATER and row.run_at_us <= now.wall_us]
        for row in due:
            row.state = JobState.PENDING
        return bool(due)

    def _claim(self, owner: int, request: ClaimRequest, now: Instant, may_look_first: bool) -> Claim:
        facts = self._facts(request, now)
        plan = admission.plan(request, facts)
        total = plan.total
        rows, is_cut = self._candidates(request, plan)
        claim = Claim()
        if may_look_first and plan.ready == 0 and all(row.new.queue in request.rated for row in rows):
            # Nothing can be begun, so nothing is written: what nobody here can run is parked some other time.
            claim.held_back = [row for row in rows if row.is_due]
            return claim
        left = dict(plan.per_queue)
        for row in rows:
            if len(claim.taken) == total:
                break
            queue, refusal = row.new.queue, admission.refusal(request, row.new.name)
            if has_expired(row.expires_at_us, now.wall_us):
                claim.expired.append(self._expire(row, now))
            elif refusal is not None:
                row.blocked_reason = refusal
                claim.parked.append(row)
            elif left[queue] > 0:
                left[queue] -= 1
                # A token is charged at claim. So none is for a job that would then wait for a worker, or a rate
                # would hold over claims and not over starts.
                is_late = plan.ready is not None and len(claim.taken) >= plan.ready
                (claim.held_back if is_late and queue in request.rated else claim.taken).append(row)
        claim.followed = self.batches.follow_up(self._rows[job.id] for job, _ in claim.expired)
        self._start(claim.taken, owner, now)
        charged = admission.charge(request, facts, tally(row.new.queue for row in claim.taken))
        for queue, bucket in charged.items():
            self._buckets[queue] = bucket
            self._is_paused.setdefault(queue, False)
        # With `ready` told, what the limits leave is known to be all: the next token or end of a job gives more.
        is_all = (
            bool(claim.taken) and len(claim.taken) == total and (plan.ready is None or total == request.slots)
        )
        is_any_left_out = bool(claim.parked or claim.expired)
        claim.has_more = is_all or (is_any_left_out and (is_cut or len(claim.taken) == total))
        claim.has_more |= claim.followed.has_due
        return claim

    def _expire(self, row: Row, now: Instant) -> tuple[ClaimedJob, Transition]:
        """End a waiting job that nobody has started in time."""
        job = msgspec.structs.replace(claimed_job_of(row), payload=b"")
        ended = expired(job, now.wall_us)
        row.blocked_reason = None
        row.open_parents = set()
        self._finish(row, ended, ended.state)
        return job, ended

    def _start(self, rows: Iterable[Row], owner: int, now: Instant) -> None:
        for row in rows:
            row.state, row.owner, row.started_at_us = JobState.RUNNING, owner, now.wall_us
            row.starts += 1
            # At claim and not at the end: a job that kills its supervisor or the host spends its attempts too.
            row.attempt += 1
            row.blocked_reason = row.progress = row.run = None

    def _candidates(self, request: ClaimRequest, plan: ClaimPlan) -> tuple[list[Row], bool]:
        """The rows a claim looks at, in its order, and whether it may have left some out.

        From a queue that has a limit or a rate, and from each name parked in a queue, it reads no more rows than it may
        take, because there may be a million. So what stands behind a refused job there waits for the next result.
        """
        left, total = plan.per_queue, plan.total
        sources = dict[tuple[str, str | None], list[Row]]()
        for row in sorted(self._rows.values(), key=lambda row: row.place):
            queue, name = row.new.queue, row.new.name
            if queue in left and row.is_due:
                sources.setdefault((queue, None), []).append(row)
            elif queue in left and row.blocked_reason is not None and request.knows(name):
                sources.setdefault((queue, name), []).append(row)
        cut = {queue for queue, most in left.items() if most < total or queue in request.rated}
        rows = list[Row]()
        for (queue, name), found in sources.items():
            is_whole = name is None and queue not in cut
            rows += found if is_whole else found[: min(left[queue], total)]
        is_cut = plan.ready is not None or bool(cut) or any(name is not None for _, name in sources)
        return sorted(rows, key=lambda row: row.place), is_cut

    def _facts(self, request: ClaimRequest, now: Instant) -> ClaimFacts:
        # Of all supervisors: limits and rates belong to the queue, whoever runs its jobs.
        running = [row.new.queue for row in self._rows.values() if row.owner is not None]
        return ClaimFacts(
            now=now,
            running={queue: running.count(queue) for queue in request.limited},
            buckets={queue: self._buckets[queue] for queue in request.rated if queue in self._buckets},
            paused=frozenset(queue for queue, is_paused in self._is_paused.items() if is_paused),
        )

    # -- how long a supervisor may sleep

    def _due_in_us(self, queues: Sequence[str], now: Instant) -> int | None:
        later = (row for row in self._of(queues) if row.state in LATER)
        return min((row.run_at_us - now.wall_us for row in later), default=None)

    def _token_in_us(self, request: ClaimRequest, now: Instant) -> int | None:
        # Only if a due job waits for a token; otherwise the supervisor may sleep on.
        facts = self._facts(request, now)
        plan = admission.plan(msgspec.structs.replace(request, slots=max(request.slots, 1)), facts)
        held_back = request.rated - facts.paused - plan.per_queue.keys()
        is_waited_for = any(row.is_due and row.new.queue in held_back for row in self._of(request.queues))
        return plan.next_token_us - now.boot_us if is_waited_for and plan.next_token_us is not None else None

    # ------------------------------------------------------------------------------------ drain

    def outstanding(self, queues: Sequence[str]) -> Outstanding:
        # A drain waits for jobs that somebody can run soon; parked, paused and scheduled ones are left behind.
        rows = self._of(queues)
        pending = sum(row.is_due and self._why_blocked(row) is None for row in rows)
        running = sum(row.state is JobState.RUNNING for row in rows)
        retrying = sum(row.state is JobState.RETRYING for row in rows)
        if pending or running or retrying:
            return Outstanding(pending, running, retrying, left=None)
        scheduled = sum(row.state is JobState.SCHEDULED for row in rows)
        reasons = (_WAITING_FOR_OTHERS if row.open_parents else self._why_blocked(row) for row in rows)
        left = LeftBehind(tally(reasons), scheduled)
        return Outstanding(pending, running, retrying, left)

    # ------------------------------------------------------------------------------------ rows

    @property
    def _now(self) -> Instant:
        return self._clock.now()

    def _report(self, ended: list[tuple[ClaimedJob, Transition]], followed: Followed) -> None:
        """The next commit says that the store has ended these jobs, and what followed."""
        self._followed.ended += [*ended, *followed.ended]
        self._followed.callbacks += followed.callbacks

    def _row(self, job_id: int) -> Row:
        if job_id not in self._rows:
            raise JobNotFoundError(job_id)
        return self._rows[job_id]

    def _first(self, is_wanted: Callable[[Row], bool]) -> Row | None:
        return next(filter(is_wanted, self._rows.values()), None)

    def _count(self, is_wanted: Callable[[Row], bool]) -> int:
        return sum(map(is_wanted, self._rows.values()))

    def _of(self, queues: Sequence[str]) -> list[Row]:
        return [row for row in self._rows.values() if row.new.queue in queues]

    def _job(self, row: Row, *, created: bool = True) -> Job:
        return job_of(row, self._why_blocked(row), created=created)

    def _why_blocked(self, row: Row) -> str | None:
        if count := len(row.open_parents):
            return f"waiting for {count} {'job' if count == 1 else 'jobs'}"
        if row.is_due and self._is_paused.get(row.new.queue):
            return f"queue {row.new.queue!r} is paused"
        return row.blocked_reason


class Upkeep:
    """What a store does for its rows by itself. The model does all of it in one step."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def step(self, queues: Sequence[str]) -> UpkeepStep:
        # Only what a start has put off waits anew: whoever enqueues a job for later has named a moment and not a wait.
        # A request to cancel a job that has ended meanwhile is none: nobody sees whether it is kept.
        now = self._model._clock.now()
        now_us, rebased = now.wall_us, 0
        # Of all queues, and whatever keeps it waiting. A job that runs is its supervisor's.
        expired = [
            self._model._expire(row, now)
            for row in [*self._model._rows.values()]
            if row.state is not JobState.RUNNING and has_expired(row.expires_at_us, now_us)
        ]
        self._model._report(
            expired, self._model.batches.follow_up(self._model._row(job.id) for job, _ in expired)
        )
        for row in self._model._of(queues):
            if row.state in LATER and row.run_at_us > now_us + STEP_US and row.put_off_us is not None:
                due_us = rebased_us(row.run_at_us, row.put_off_us, now_us=now_us)
                rebased += due_us != row.run_at_us
                row.run_at_us = due_us
        return UpkeepStep(rebased, 0, has_more=False, expired=len(expired))

    def prune(self, retention: Retention) -> PruneStep:
        return PruneStep(self._model._prune_by_age(retention), has_more=False)

    def set_aside(self, owner: int, job_ids: Collection[int]) -> None:
        """No call of the contract makes a row that cannot be read."""

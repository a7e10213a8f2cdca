"""Makes the same calls to a store and to the model, and compares every answer and all there is to see.

Hypothesis chooses the calls. Two supervisors work on the store. Each may crash, lose its registration to the other,
come back, and go on with outcomes of starts that are not its own any more.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mpdispatch.clock import SECOND_US, Clock
from mpdispatch.model import (
    AlikeJobs,
    ClaimedJob,
    ClaimRequest,
    CronSpec,
    Job,
    JobState,
    NewJob,
    Output,
    Page,
    PeerSupervisor,
    Stream,
    Transition,
)
from mpdispatch.policy.decide import RetryRules, decide
from mpdispatch.store.contract import Store
from mpdispatch.store.filters import DeadLetterFilter, JobFilter, PruneFilter
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.store.values import NO_REPORTS, CommitResult, Progress, Reports, Retention, UpkeepStep
from tests.clock import FakeClock
from tests.kinds import Ids

from . import draws
from .answers import Refusal, answer_of, compare
from .machine_batches import BatchSteps
from .machine_crons import CronSteps
from .model import Model
from .rows import Start
from .steps import STEPS, Step, places, sides, step

__all__ = ["Machine"]

T = TypeVar("T")

WAITING = (JobState.PENDING, JobState.SCHEDULED, JobState.RETRYING)
RUNNING = (JobState.RUNNING,)
AGAIN = (JobState.FAILED, JobState.CANCELLED)


@dataclass
class Supervisor:
    """One of the two: its face of the store, and what it believes."""

    store: SupervisorStore
    owner: int = 0
    held: list[ClaimedJob] = field(default_factory=list)
    """The jobs it claimed and has not ended."""
    seen: list[tuple[PeerSupervisor, PeerSupervisor]] = field(default_factory=list)
    """Its peers when it last looked, as the store gave them and as the model did."""


class Machine(BatchSteps, CronSteps, RuleBasedStateMachine):
    def __init__(
        self,
        store_of: Callable[[Clock], Store],
        connect: Callable[[Store], Any] | None = None,
        ids_of: Callable[[Store], Ids | None] | None = None,
    ) -> None:
        """`connect` gives a connection that the store can enqueue on, or None if it has no such thing. `ids_of`: what
        gives back the ids that a refused call has used up.
        """
        super().__init__()
        self.clock = FakeClock()
        self.store, self.model = store_of(self.clock), Model(self.clock)
        self.ids = None if ids_of is None else ids_of(self.store)
        self.app = None if connect is None else connect(self.store)
        """The connection of an application that keeps its jobs in its own transactions."""
        self.is_set_back = False
        self.last_id = 0
        self.past: list[ClaimedJob] = []
        """Starts that ended, or that were lost with their supervisor; the newest first."""
        self.looks = 0
        self.is_looking = False
        """Whether nothing is called now but what only reads, so that no ids are used up."""
        self.queues = cycle(request.queues for request in draws.REQUESTS.values())
        self.supervisors = [Supervisor(self.store.supervisor_store()) for _ in range(2)]
        for each in self.supervisors:
            self.join(each)
        self.begin_crons()
        self.begin_batches()

    # ---------------------------------------------------------------- both at once

    def both(self, call: str, *args: Any, by: Supervisor | None = None, **options: Any) -> Any:
        """The answer of the store, which must be the model's; None if both refuse for the same reason."""
        method, face = attrgetter(call), self.store if by is None else by.store
        found = answer_of(method(face), *args, **options)
        self.settle_ids(is_done=not isinstance(found, Refusal))
        compare(call, found, answer_of(method(self.model), *args, **options))
        self.saw(found if isinstance(found, list) else [found])
        return None if isinstance(found, Refusal) else found

    def settle_ids(self, *, is_done: bool) -> None:
        """After each call: one that has done nothing gives back the ids that it has used up."""
        if self.ids is not None and not self.is_looking:
            (self.ids.keep if is_done else self.ids.give_back)()

    def saw(self, items: Iterable[Any]) -> None:
        self.last_id = max([self.last_id, *(each.id for each in items if isinstance(each, Job))])

    def jobs(self) -> list[Job]:
        """The newest first."""
        return self.model.list_jobs(JobFilter(), limit=1000, cursor=None).items

    def one_of(self, states: Sequence[JobState], at: int) -> int:
        """The id of a job in one of these states; 0 if there is none."""
        return _nth([job.id for job in self.jobs() if job.state in states] or [0], at)

    # ---------------------------------------------------------------- clients

    @initialize(
        jobs=st.lists(st.tuples(draws.new_jobs, draws.keys, draws.waits_us), min_size=1, max_size=5),
        crons=draws.declared_crons,
    )
    def begin(self, jobs: list[tuple[NewJob, str | None, int | None]], crons: list[CronSpec]) -> None:
        for job, key, wait_us in jobs:
            self.enqueue(job, key, wait_us)
        self.sync_crons("code", draws.APPS[0], crons, draws.START_US, True, None)

    @step(3, job=draws.new_jobs, key=draws.keys, wait_us=draws.waits_us)
    def enqueue(self, job: NewJob, key: str | None, wait_us: int | None) -> None:
        self.both("enqueue", self.due(job, wait_us, idempotency_key=key))

    def due(self, job: NewJob, wait_us: int | None, **more: Any) -> NewJob:
        run_at_us = None if wait_us is None else self.clock.now().wall_us + wait_us
        return msgspec.structs.replace(job, run_at_us=run_at_us, **more)

    @step(
        1,
        job=draws.new_jobs,
        wait_us=draws.waits_us,
        payloads=st.lists(draws.payloads, max_size=4),
        batch_id=st.sampled_from([None, None, 1, 2]),
    )
    def enqueue_many_alike(
        self, job: NewJob, wait_us: int | None, payloads: list[bytes], batch_id: int | None
    ) -> None:
        self.many(AlikeJobs(self.due(job, wait_us), payloads), batch_id)

    @step(
        1,
        jobs=st.lists(st.tuples(draws.new_jobs, draws.keys, draws.waits_us), max_size=5),
        batch_id=st.sampled_from([None, None, 1, 2]),
    )
    def enqueue_many(self, jobs: list[tuple[NewJob, str | None, int | None]], batch_id: int | None) -> None:
        """Each with its own options; some with a key that may be in use, or that another of them has."""
        self.many([self.due(job, wait_us, idempotency_key=key) for job, key, wait_us in jobs], batch_id)

    def many(self, jobs: Sequence[NewJob], batch_id: int | None) -> None:
        made = self.both("enqueue_many", jobs, batch=batch_id, closes=batch_id != 1)
        self.last_id = max([self.last_id, *(made.ids if made is not None else [])])

    @step(1, job=draws.new_jobs, key=draws.keys, is_committed=st.booleans())
    def enqueue_in_a_transaction_of_the_app(self, job: NewJob, key: str | None, is_committed: bool) -> None:
        """The job is kept by the commit of the app, and gone with its rollback."""
        if self.app is None:
            return
        before = copy.deepcopy(self.model, {id(self.clock): self.clock})  # of the same clock
        new = self.due(job, None, idempotency_key=key)
        self.app.execute("BEGIN")
        found = answer_of(self.store.enqueue, new, connection=self.app)
        self.app.execute("COMMIT" if is_committed else "ROLLBACK")
        self.settle_ids(is_done=is_committed)
        compare("enqueue", found, answer_of(self.model.enqueue, new))
        if is_committed:
            self.last_id = max(self.last_id, found.id)
        else:
            self.model = before

    @step(1, at=places)
    def enqueue_in_place_of(self, at: int) -> None:
        """Enqueue the new job of an ended one, unless it has one: a caller who does not know asks `retry`."""
        old = self.one_of(AGAIN, at)
        if old and all(job.retried_from != old for job in self.jobs()):
            self.both("enqueue", NewJob(name="mail", payload=b"{}", retried_from=old))

    @step(3, at=places, states=st.sampled_from([RUNNING, RUNNING, WAITING, (*JobState,)]))
    def cancel(self, at: int, states: tuple[JobState, ...]) -> None:
        self.both("cancel", self.one_of(states, at))

    @step(
        3,
        at=places,
        what=st.sampled_from(
            [
                *[("replay", (JobState.FAILED,)), ("retry", AGAIN)] * 2,
                *[("retry", WAITING), ("retry", (*JobState,)), ("replay", (*JobState,))],
            ]
        ),
    )
    def run_again(self, at: int, what: tuple[str, tuple[JobState, ...]]) -> None:
        call, states = what
        self.both(call, self.one_of(states, at))

    @step(
        3,
        which=st.lists(
            st.tuples(st.sampled_from([(JobState.FAILED,), AGAIN, (*JobState,)]), places), max_size=4
        ),
    )
    def run_many_again(self, which: list[tuple[tuple[JobState, ...], int]]) -> None:
        made = self.both("retry_many", [self.one_of(states, at) for states, at in which])
        self.saw(made[0])

    @step(1, queue=st.sampled_from(draws.QUEUES), is_paused=st.sampled_from([True, False, False]))
    def pause(self, queue: str, is_paused: bool) -> None:
        self.both("set_paused", queue, is_paused)

    @step(1, where=draws.letter_filters)
    def purge(self, where: DeadLetterFilter) -> None:
        self.both("purge_dead_letters", where)

    @step(
        3,
        age_us=st.sampled_from([None, -1, 0, -1000 * SECOND_US, 5 * SECOND_US]),
        state=st.sampled_from([None, None, JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED]),
        keep=st.sampled_from([None, None, 0, 1, 2, 5]),
        dry_run=st.sampled_from([False, False, True]),
    )
    def prune(self, age_us: int | None, state: JobState | None, keep: int | None, dry_run: bool) -> None:
        before_us = None if age_us is None else self.clock.now().wall_us - age_us
        where = PruneFilter(state=state, ended_before_us=before_us, keep=keep)
        self.both("prune", where, dry_run=dry_run)

    @step(
        3,
        ended_us=st.sampled_from([None, 0, 5 * SECOND_US, -1000 * SECOND_US]),
        failed_us=st.sampled_from([None, 0, 5 * SECOND_US, -1000 * SECOND_US]),
        limit=st.sampled_from([None, 1, 2, 5]),
        side=sides,
    )
    def keep_no_longer(self, ended_us: int | None, failed_us: int | None, limit: int | None, side: int) -> None:
        retention, upkeep = Retention(ended_us, failed_us, limit), self.supervisors[side].store.upkeep
        while (done := upkeep.prune(retention)).has_more:
            assert done.pruned == 0, "the number is given at the end"
        compare("upkeep.prune", done.pruned, self.model.upkeep.prune(retention).pruned)

    @step(1)
    def ask_for_what_cannot_be(self) -> None:
        for job_id in (0, -1, 2**63, self.last_id + 1):
            for call in ("get", "state_of", "attempts", "outputs", "ahead", "dead_letter"):
                self.both(call, job_id)
            for call in ("cancel", "retry", "replay"):
                self.both(call, job_id)
        for call, where in (("list_jobs", JobFilter()), ("dead_letters", DeadLetterFilter())):
            self.both(call, where, limit=0, cursor=None)
            self.both(call, where, limit=2, cursor="no cursor")

    # ---------------------------------------------------------------- time

    @step(2, seconds=st.sampled_from([5, 1, 0.000_001, 31, 100]), jump=st.sampled_from([0, 0, 0, 1, -1]))
    def wait(self, seconds: float, jump: int) -> None:
        """Let time pass, or set the wall clock forward or back."""
        self.is_set_back |= jump < 0
        if jump:
            self.clock.jump_wall(jump * seconds)
        else:
            self.clock.advance(seconds)

    @step(
        4,
        side=sides,
        seconds=st.sampled_from([31, 5, 100, 1, 6]),
        outcomes=st.lists(draws.waiting, max_size=3),
    )
    def find_the_clock_set_back(self, side: int, seconds: int, outcomes: list[str]) -> None:
        """Put jobs off, set the wall clock back, and have the store see to it that none waits longer for that."""
        by = self.one_that_holds_jobs(side)
        self.commit(by, self.decided(outcomes, by.held))
        self.is_set_back = True
        self.clock.jump_wall(-seconds)
        self.upkeep(by)
        assert not self.upkeep(by), "to look again changes nothing"

    def upkeep(self, by: Supervisor) -> int:
        """All steps, on a new connection, whose first steps look at all rows; gives how many jobs wait anew."""
        self.reconnect(by)
        return self.steps_of_upkeep(by, draws.QUEUES)

    def steps_of_upkeep(self, by: Supervisor, queues: Sequence[str]) -> int:
        rebased, expired, step = 0, 0, UpkeepStep(0, 0, has_more=True)
        while step.has_more:
            step = by.store.upkeep.step(queues)
            assert step.repaired == 0, "no call makes a row that no query finds"
            rebased, expired = rebased + step.rebased, expired + step.expired
        ours = self.model.upkeep.step(queues)
        compare("upkeep", (rebased, expired), (ours.rebased, ours.expired))
        self.hear(by)
        return rebased

    def hear(self, by: Supervisor) -> None:
        """What the store has ended, and what followed: its next commit reports it, once it is registered."""
        for _ in range(2):
            self.commit(by, [])

    # ---------------------------------------------------------------- a supervisor at work

    @step(
        5,
        side=sides,
        request=draws.requests,
        skip_idle_check=st.booleans(),
    )
    def claim(self, side: int, request: ClaimRequest, skip_idle_check: bool) -> None:
        self.commit(self.supervisors[side], [], claim=request, skip_idle_check=skip_idle_check)

    @step(4, side=sides, outcomes=st.lists(draws.outcomes, min_size=1, max_size=4))
    def finish(self, side: int, outcomes: list[str]) -> None:
        """The jobs it holds, the longest held first."""
        by = self.one_that_holds_jobs(side)
        self.commit(by, self.decided(outcomes, by.held))

    @step(2, side=sides)
    def cancel_too_late(self, side: int) -> None:
        """Of all jobs that run, one has completed when its supervisor hears of it. That request is forgotten."""
        for each in self.supervisors:
            two = msgspec.structs.replace(draws.REQUESTS["everything"], slots=2)
            self.commit(each, [], claim=two, skip_idle_check=True)
        by = self.one_that_holds_jobs(side)
        for job in self.jobs():
            if job.state is JobState.RUNNING:
                self.both("cancel", job.id)
        self.commit(by, self.decided(["completed"], by.held))
        self.reconnect(by)
        for each in self.supervisors:
            self.both("cancel_requests", each.owner, by=each)
        self.steps_of_upkeep(by, ())

    @step(3, side=sides, at=places, outcome=draws.outcomes)
    def finish_too_late(self, side: int, at: int, outcome: str) -> None:
        by = self.supervisors[side]
        strangers = self.starts_that_are_not_of(by)[:5]
        self.commit(by, self.decided([outcome], [_nth(strangers, at)] if strangers else []))

    @step(
        4,
        side=sides,
        outcomes=st.lists(draws.outcomes, max_size=3),
        late=st.lists(draws.outcomes, max_size=2),
        said=st.lists(draws.sayings, max_size=3),
        request=draws.requests,
        is_twice=st.sampled_from([False, False, False, True]),
    )
    def do_all_in_one_turn(
        self,
        side: int,
        outcomes: list[str],
        late: list[str],
        said: list[tuple[bytes, Stream, str]],
        request: ClaimRequest,
        is_twice: bool,
    ) -> None:
        """Outcomes of the jobs it holds and of starts that are not its own (any more), reports of both, a claim."""
        by = self.one_that_holds_jobs(side)
        strangers = self.starts_that_are_not_of(by)
        transitions = [*self.decided(late, strangers), *self.decided(outcomes, by.held)]
        progress, outputs = list[Progress](), list[Output]()
        for job, (data, stream, text) in zip([*strangers[:1], *by.held], said, strict=False):
            start = {"job_id": job.id, "starts": job.starts}
            progress.append(Progress(**start, data=data))
            outputs.append(Output(**start, stream=stream, text=text, written=len(text) + 1))
        self.commit(
            by,
            transitions * (2 if is_twice else 1),
            Reports(progress, outputs),
            claim=request,
        )

    def one_that_holds_jobs(self, side: int) -> Supervisor:
        """The one on this side, unless only the other has any."""
        by, other = self.supervisors[side], self.supervisors[1 - side]
        return other if other.held and not by.held else by

    def starts_that_are_not_of(self, by: Supervisor) -> list[ClaimedJob]:
        """Those of the other one, and those that are over: first of the jobs that run again, where they do most harm."""
        held = [job for each in self.supervisors if each is not by for job in each.held]
        running = {job.id for job in self.jobs() if job.state is JobState.RUNNING}
        return [*held[-1:], *sorted(self.past, key=lambda job: job.id not in running)]

    def decided(self, outcomes: Iterable[str], jobs: Iterable[ClaimedJob]) -> list[Transition]:
        """One transition each, as far as there are jobs."""
        now_us = self.clock.now().wall_us
        return [
            decide(job, draws.OUTCOMES[name], RetryRules(), now_us=now_us, jitter=0.5)
            for job, name in zip(jobs, outcomes, strict=False)
        ]

    def commit(
        self, by: Supervisor, transitions: Sequence[Transition], reports: Reports = NO_REPORTS, **options: Any
    ) -> None:
        result: CommitResult | None = self.both("commit", by.owner, transitions, reports, by=by, **options)
        if result is None:
            self.join(by)
            return
        ended = {(each.job_id, each.starts) for each in transitions}
        self.past = [*(job for job in by.held if _start(job) in ended), *self.past]
        by.held = [job for job in by.held if _start(job) not in ended] + list(result.claimed)

    # ---------------------------------------------------------------- a supervisor's life

    def join(self, by: Supervisor) -> None:
        """Register, for the first time or anew. What it held is not its own any more, but it may still try."""
        self.past = [*by.held, *self.past]
        by.held, by.seen = [], []
        by.owner = self.both("register", draws.WHO, 30 * SECOND_US, by=by)

    @step(1, side=sides)
    def renew(self, side: int) -> None:
        self.both("renew", self.supervisors[side].owner, 30 * SECOND_US, by=self.supervisors[side])

    @step(1, side=sides)
    def look_at_peers(self, side: int) -> None:
        by = self.supervisors[side]
        found = self.both("peers", by.owner, by=by)
        by.seen = list(zip(found.registered, self.model.peers(by.owner).registered, strict=True))

    @step(1, side=sides)
    def crash(self, side: int) -> None:
        """Another process takes its place. Its registration stays, and so do the jobs it ran."""
        self.reconnect(self.supervisors[side])
        self.join(self.supervisors[side])

    def reconnect(self, by: Supervisor) -> None:
        by.store.close()
        by.store = self.store.supervisor_store()

    @step(
        3,
        side=sides,
        of_whom=st.sampled_from(["crashed", "crashed", "living"]),
        looks_again=st.sampled_from([True, True, False]),
        is_renewed_meanwhile=st.booleans(),
        leaves_one=st.sampled_from([False, False, True]),
        outcomes=st.lists(draws.rescues, min_size=1, max_size=3),
    )
    def take_over(
        self,
        side: int,
        of_whom: str,
        looks_again: bool,
        is_renewed_meanwhile: bool,
        leaves_one: bool,
        outcomes: list[str],
    ) -> None:
        by, other = self.supervisors[side], self.supervisors[1 - side]
        if looks_again:
            self.look_at_peers(side)
        peers = [each for each in by.seen if (each[0].id == other.owner) is (of_whom == "living")]
        if not peers:
            return
        ours, theirs = peers[0]
        jobs: list[ClaimedJob] = self.both("jobs_of", ours.id, by=by)
        transitions = self.decided(cycle(outcomes), jobs)[int(leaves_one) :]
        if of_whom == "living" and is_renewed_meanwhile:
            self.clock.advance(1)
            self.renew(1 - side)
        found = answer_of(by.store.take_over, ours, transitions)
        self.settle_ids(is_done=found is True)
        compare("take_over", found, answer_of(self.model.take_over, theirs, transitions))
        self.hear(by)

    @step(2, side=sides)
    def be_struck_off(self, side: int) -> None:
        """As if somebody deleted its registration: the jobs it runs have an owner that nobody knows."""
        by = self.one_that_holds_jobs(side)
        self.both("unregister", by.owner, by=by)

    @step(
        4,
        side=sides,
        at=places,
        is_known=st.sampled_from([False] * 5 + [True]),
        leaves_one=st.sampled_from([False, False, True]),
        outcomes=st.lists(draws.rescues, min_size=1, max_size=3),
    )
    def take_over_of_nobody(
        self, side: int, at: int, is_known: bool, leaves_one: bool, outcomes: list[str]
    ) -> None:
        """Of an owner that is not registered; or of one that is, or of one that has nothing."""
        by = self.supervisors[side]
        unknown = self.both("peers", by.owner, by=by).unregistered
        owner = _nth(unknown, at) if unknown and not is_known else self.supervisors[1 - side].owner
        jobs: list[ClaimedJob] = self.both("jobs_of", owner, by=by)
        self.both("take_over", owner, self.decided(cycle(outcomes), jobs)[int(leaves_one) :], by=by)
        self.hear(by)

    @step(1, side=sides)
    def leave(self, side: int) -> None:
        """Give back what it holds and go; only if that is all it owns, as the contract has it."""
        by = self.supervisors[side]
        self.commit(by, self.decided(cycle(["released"]), by.held))
        if not self.both("jobs_of", by.owner, by=by):
            self.both("unregister", by.owner, by=by)

    @step(1, side=sides)
    def look_after_the_store(self, side: int) -> None:
        """What may change nothing that can be seen, and connections opened anew."""
        by = self.supervisors[side]
        store = by.store
        store.upkeep.set_aside(by.owner, [job.id for job in self.jobs()])
        store.file_care.checkpoint_if_large()
        store.file_care.sync()
        store.file_care.verify()
        self.store.wake()
        self.reconnect(by)
        self.store.close_all()

    # ---------------------------------------------------------------- all there is to see

    @invariant()
    def all_there_is_to_see_is_the_same(self) -> None:
        self.is_looking = True
        self.look()
        self.is_looking = False

    def look(self) -> None:
        self.both("list_jobs", JobFilter(), limit=1000, cursor=None)
        self.looks += 1
        self.page_through("list_jobs", self.one_of_all(draws.JOB_FILTERS))
        letters = self.one_of_all(draws.LETTER_FILTERS)
        self.page_through("dead_letters", letters)
        self.page_through("failures", letters)
        for call in ("counts", "queue_stats", "supervisors", "dead_letter_count"):
            self.both(call)
        parked = self.both("parked")
        assert [*parked.values()] == sorted(parked.values(), reverse=True), "the commonest reason first"
        for job_id in range(1, self.last_id + 1):
            for call in ("get", "state_of", "attempts", "outputs", "ahead", "dead_letter"):
                self.both(call, job_id)
        self.both("ended", range(self.last_id + 2))
        for queue in draws.QUEUES:
            self.both("queue_state", queue)
            self.both("dead_letter_count", queue)
        for each in self.supervisors:
            for call in ("cancel_requests", "jobs_of", "peers"):
                self.both(call, each.owner, by=each)
            self.both("held_by", each.owner)
        self.both("outstanding", next(self.queues), by=self.supervisors[0])
        self.all_crons_are_the_same()
        self.all_batches_are_the_same()

    def one_of_all(self, filters: Sequence[T]) -> T:
        """Another one at each look, and in examples with other jobs other ones: an example has fewer looks than there
        are filters."""
        return _nth(filters, self.looks + 37 * self.last_id)

    def page_through(self, call: str, where: JobFilter | DeadLetterFilter) -> None:
        # A cursor is its store's own: each gets back what it gave.
        cursors: list[str | None] = [None, None]
        while True:
            pages = [
                answer_of(attrgetter(call)(each), where, limit=2, cursor=cursor)
                for each, cursor in zip((self.store, self.model), cursors, strict=True)
            ]
            compare(call, *pages)
            cursors = [page.next_cursor if isinstance(page, Page) else None for page in pages]
            if None in cursors:
                return

    def teardown(self) -> None:
        for each in self.supervisors:
            each.store.close()
        self.store.close_all()
        if self.app is not None:
            self.app.close()

    @rule(step=st.one_of(STEPS))
    def do(self, step: Step) -> None:
        getattr(self, step.call)(**step.options)


def _start(job: ClaimedJob) -> Start:
    return job.id, job.starts


def _nth(items: Sequence[T], at: int) -> T:
    """Counted round."""
    return items[at % len(items)]

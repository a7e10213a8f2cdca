"""Random graphs of jobs that wait for others, run to their ends in random orders: each job ends as an oracle says.

The oracle knows no store: it works out from the graph what must come of each job, and in which order jobs may start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from mpdispatch import Engine, JobState
from mpdispatch.model import (
    Cause,
    ClaimedJob,
    ClaimRequest,
    ErrorInfo,
    NewSupervisor,
    OnParentFailure,
    Run,
    Transition,
)
from mpdispatch.store.supervisor_contract import SupervisorStore

COMPLETED, FAILED, CANCELLED, PENDING = (
    JobState.COMPLETED,
    JobState.FAILED,
    JobState.CANCELLED,
    JobState.PENDING,
)
ERROR = ErrorInfo(type="ValueError", message="no")
engine = Engine.open(":memory:")


@engine.job(max_retries=0)
def work() -> None: ...


@dataclass(frozen=True)
class Node:
    parents: tuple[int, ...]
    policy: OnParentFailure
    outcome: Literal["completed", "failed"]
    priority: int
    is_late: bool
    """Enqueued when some of the others have ended already."""


@st.composite
def graphs(draw: st.DrawFn) -> list[Node]:
    """Each job may wait for any that come before it."""
    size = draw(st.integers(1, 12))
    nodes = list[Node]()
    for number in range(size):
        parents = draw(st.sets(st.integers(0, number - 1), max_size=4)) if number else set()
        nodes.append(
            Node(
                parents=tuple(sorted(parents)),
                policy=draw(st.sampled_from(("cancel", "run", "wait"))),
                outcome=draw(st.sampled_from(("completed", "completed", "failed"))),
                priority=draw(st.integers(-1, 1)),
                is_late=draw(st.booleans()),
            )
        )
    return nodes


# ---------------------------------------------------------------- the oracle


def expected(nodes: Sequence[Node]) -> list[JobState]:
    """How each job stands once nothing can run any more; PENDING: it waits for ever."""
    found = list[JobState]()
    for node in nodes:
        states = {found[each] for each in node.parents}
        if node.policy == "cancel" and states & {FAILED, CANCELLED}:
            found.append(CANCELLED)
        elif PENDING in states or (node.policy == "wait" and states & {FAILED, CANCELLED}):
            found.append(PENDING)
        else:
            found.append(JobState(node.outcome))
    return found


# ---------------------------------------------------------------- running a graph


class House:
    """A store with one supervisor of it, whose jobs end as they are told to. Notes in which order they start and end."""

    def __init__(self, desk: SupervisorStore, owner: int) -> None:
        self._desk, self._owner = desk, owner
        self.running = dict[int, ClaimedJob]()
        self.history = list[tuple[str, int]]()

    def claim(self, slots: int) -> list[ClaimedJob]:
        made = self._desk.commit(self._owner, [], claim=ClaimRequest(queues=("default",), slots=slots))
        self.running |= {job.id: job for job in made.claimed}
        self.history += [("start", job.id) for job in made.claimed]
        return [*made.claimed]

    def end(self, outcomes: Mapping[int, JobState]) -> None:
        """End these running jobs in one commit."""
        transitions = [_transition(self.running.pop(job_id), state) for job_id, state in outcomes.items()]
        result = self._desk.commit(self._owner, transitions)
        self.history += [("end", job_id) for job_id in outcomes]
        self.history += [("end", job.id) for job, _ in result.ended]


def _transition(job: ClaimedJob, state: JobState) -> Transition:
    has_failed = state is FAILED
    return Transition(
        job_id=job.id,
        starts=job.starts,
        state=state,
        attempt=job.attempt,
        claim_attempt=job.attempt,
        cause=Cause.ERROR if has_failed else Cause.COMPLETED,
        at_us=0,
        error=ERROR if has_failed else None,
        result=None if has_failed else b"1",
        run=Run(started_us=0),
    )


@contextmanager
def house() -> Iterator[House]:
    engine.use_store(":memory:")
    engine.store.migrate()
    desk = engine.store.supervisor_store()
    who = NewSupervisor(
        host="here",
        machine_id="m",
        boot_id="b",
        pid=1,
        pid_start=1,
        pid_namespace="n",
        queues=("default",),
        concurrency=4,
        app="a",
        version="1",
    )
    yield House(desk, desk.register(who, 30_000_000))
    desk.close()
    engine.store.close_all()


def run(house: House, draw: st.DataObject, outcomes: Mapping[int, JobState]) -> None:
    """Claim and end jobs, some at a time, until nothing is due."""
    while True:
        claimed = house.claim(draw.draw(st.integers(1, 4)))
        if not claimed and not house.running:
            return
        ending = sorted(draw.draw(st.sets(st.sampled_from(sorted(house.running)), min_size=not claimed)))
        house.end({job_id: outcomes.get(job_id, COMPLETED) for job_id in ending})


def assert_in_order(history: Sequence[tuple[str, int]], parents: Mapping[int, Sequence[int]]) -> None:
    """No job starts twice, or before its parents have ended."""
    ended, started = set[int](), set[int]()
    for what, job_id in history:
        if what == "start":
            assert job_id not in started, history
            assert set(parents.get(job_id, ())) <= ended, (job_id, history)
            started.add(job_id)
        else:
            assert job_id not in ended, history
            ended.add(job_id)


@settings(max_examples=150)
@given(graphs(), st.data())
def test_each_job_of_a_graph_ends_as_its_parents_and_its_policy_say(
    nodes: list[Node], data: st.DataObject
) -> None:
    with house() as here:
        ids, outcomes = list[int](), dict[int, JobState]()
        for node in nodes:
            if node.is_late:
                run(here, data, outcomes)
            parents = [ids[each] for each in node.parents]
            door = work.options(after=parents, on_parent_failure=node.policy, priority=node.priority)
            job = door.enqueue()
            ids.append(job.id)
            outcomes[job.id] = JobState(node.outcome)
            if job.state.is_terminal:
                here.history.append(("end", job.id))
        run(here, data, outcomes)
        wanted = expected(nodes)
        assert [engine.get_job(each).state for each in ids] == wanted
        edges = {ids[at]: [ids[each] for each in node.parents] for at, node in enumerate(nodes)}
        assert_in_order(here.history, edges)
        for job_id, state in zip(ids, wanted, strict=True):
            job = engine.get_job(job_id)
            assert [each.id for each in engine.parents(job_id)] == sorted(edges[job_id])
            assert (job.blocked_reason is not None) is (state is PENDING)
            assert (job.last_error is not None and job.last_error.type == "ParentFailedError") is (
                state is CANCELLED
            )

        retry_until_all_complete(here, data, ids)


def retry_until_all_complete(here: House, data: st.DataObject, ids: Sequence[int]) -> None:
    """Retry all that failed or was cancelled, in any order, and have it complete: then everything does, in order."""
    broken = [job_id for job_id in ids if engine.get_job(job_id).state in (FAILED, CANCELLED)]
    here.history.clear()
    last = {job_id: job_id for job_id in ids}
    for job_id in data.draw(st.permutations(broken)):
        last[job_id] = engine.retry(job_id).id
        if data.draw(st.booleans()):
            run(here, data, {})
    run(here, data, {})
    jobs = [engine.get_job(last[job_id]) for job_id in ids]
    assert {job.state for job in jobs} == {COMPLETED}
    assert engine.counts()[PENDING] == 0
    starts = [job_id for what, job_id in here.history if what == "start"]
    for job in jobs:
        for parent in engine.parents(job.id):
            if job.id in starts and parent.id in starts:
                assert here.history.index(("end", parent.id)) < here.history.index(("start", job.id))

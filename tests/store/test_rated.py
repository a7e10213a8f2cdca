"""What a store claims of rate-limited queues: only what ready workers begin, and it says what waits for one."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpdispatch.clock import SystemClock
from mpdispatch.config import QueueConfig
from mpdispatch.engine.explain import explain
from mpdispatch.model import Job, JobState, NewJob
from mpdispatch.policy.rate import Rate
from mpdispatch.store import SQLiteStore
from mpdispatch.store.contract import Store
from tests.clock import FakeClock
from tests.kinds import StoreKind

from .conftest import TTL_US, Desk, completed, registration
from .requests import RATE, request

Enqueue = Callable[..., Job]


def test_without_a_ready_worker_none_is_claimed_no_token_charged_and_it_is_said(
    store: Store, enqueue: Enqueue, desk: Desk
) -> None:
    jobs = [enqueue(queue="rated") for _ in range(3)]
    wanted = request("default", "rated", bursts={"rated": 2})
    result = desk.commit(slots=8, ready=0, claim=wanted)
    assert (list(result.claimed), result.has_more, result.token_in_us) == ([], False, None)
    assert set(result.held_back) == {"rated"}
    assert store.queue_state("rated").bucket is None
    result = desk.commit(slots=8, ready=1, claim=wanted)
    assert [job.id for job in result.claimed] == [jobs[0].id]
    assert (dict(result.held_back), result.held_from) == (
        {"rated": 1},
        (0, result.claimed[0].run_at_us, jobs[1].id),
    )
    assert store.queue_state("rated").bucket is not None


def test_a_look_that_finds_only_jobs_without_a_worker_takes_no_lock(
    file_store: SQLiteStore, clock: FakeClock
) -> None:
    file_store.enqueue(NewJob(name="a", payload=b"{}", queue="rated"))
    one, other = Desk(file_store, clock), Desk(file_store, clock)
    wanted = request("rated", bursts={"rated": 2})
    other.supervisor_store.file_care.has_changed()
    assert one.commit(slots=8, ready=0, claim=wanted).held_back == {"rated": 1}
    assert not other.supervisor_store.file_care.has_changed()
    one.close()
    other.close()


def test_one_whose_turn_it_is_not_is_not_said_to_wait(enqueue: Enqueue, desk: Desk) -> None:
    for _ in range(5):
        enqueue()
    enqueue(queue="rated")
    result = desk.commit(slots=3, ready=0, claim=request("default", "rated", bursts={"rated": 2}))
    assert (len(result.claimed), result.held_back, result.has_more) == (3, {}, True)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=25),
    st.integers(1, 30),
    st.integers(0, 6),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_rated_jobs_are_among_the_first_that_are_begun_and_never_more_than_tokens(
    jobs: list[tuple[str, int]], slots: int, ready: int, of_a: int, of_b: int
) -> None:
    clock = FakeClock()
    store = SQLiteStore(":memory:", clock=clock)
    store.check(create=True)
    for queue, priority in jobs:
        store.enqueue(NewJob(name="x", payload=b"{}", queue=queue, priority=priority))
    desk = Desk(store, clock)
    tokens = {"a": of_a, "b": of_b}
    result = desk.commit(slots=slots, ready=ready, claim=request("a", "b", "c", bursts=tokens))
    claimed = [job.queue for job in result.claimed]
    assert all(queue == "c" for queue in claimed[ready:])
    assert len(claimed) <= slots
    for queue, most in tokens.items():
        assert claimed.count(queue) + result.held_back.get(queue, 0) <= most
        rate, now_us = Rate(RATE, most), clock.now().boot_us
        assert rate.available(store.queue_state(queue).bucket, now_us=now_us) == most - claimed.count(queue)
    if result.held_back:
        order = [(-job.priority, job.run_at_us, job.id) for job in result.claimed[:ready]]
        assert result.held_from is None or all(each < result.held_from for each in order)
    desk.commit(*[completed(job, clock.now()) for job in result.claimed])
    assert store.counts()[JobState.PENDING] == len(jobs) - len(claimed)
    desk.close()
    store.close()


def test_behind_refused_jobs_of_the_only_queue_there_may_be_more(enqueue: Enqueue, desk: Desk) -> None:
    for _ in range(2):
        enqueue("unknown", queue="rated")
    job = enqueue("known", queue="rated")
    wanted = request("rated", bursts={"rated": 9}, names=frozenset({"known"}))
    result = desk.commit(slots=2, claim=wanted)
    assert ([*result.claimed], sum(result.parked.values()), result.has_more) == ([], 2, True)
    assert [each.id for each in desk.commit(slots=2, claim=wanted).claimed] == [job.id]


def test_explain_tells_by_the_stores_own_clock_when_the_next_may_start(store_kind: StoreKind) -> None:
    store = store_kind.make()
    supervisor = store.supervisor_store()
    owner = supervisor.register(registration(queues=("rated",)), TTL_US)
    jobs = [store.enqueue(NewJob(name="noop", payload=b"{}", queue="rated")) for _ in range(2)]
    supervisor.commit(owner, [], claim=request("rated", bursts={"rated": 1}))
    limits = [QueueConfig("rated", rate_limit=RATE)]
    (reason,) = explain(store, jobs[1].id, now=SystemClock().now(), queue_configs=limits)[1]
    assert reason.code == "rate_limit"
    assert 0.9 / RATE < float(reason.text.split()[-2]) <= 1 / RATE, reason.text
    supervisor.close()
    store_kind.discard(store)

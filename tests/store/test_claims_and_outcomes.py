"""Claims and outcomes of many kinds in one commit: what is done for all of them at once must hold for each."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mpdispatch.clock import Instant
from mpdispatch.model import AlikeJobs, Cause, Job, JobState, NewJob, Run, Transition
from mpdispatch.store.contract import Store
from mpdispatch.store.values import Progress
from tests.clock import FakeClock

from .conftest import ERROR, Desk, completed, failed, released, retrying
from .requests import request

Enqueue = Callable[..., Job]


# ---------------------------------------------------------------- claims


def test_first_and_later_starts_and_parked_jobs_are_claimed_together(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock
) -> None:
    parked = enqueue("b", priority=2)
    desk.claim(claim=request(names=frozenset()))
    assert store.get(parked.id).blocked_reason is not None
    again = enqueue("a", priority=1)
    (claimed,) = desk.claim(claim=request(names=frozenset({"a"})))
    desk.commit(progress=[Progress(job_id=again.id, starts=1, data=b'{"done":1}')])
    desk.commit(retrying(claimed, clock.now(), in_s=0))
    fresh = enqueue("a")
    clock.advance(1)
    jobs = desk.claim(claim=request(names=frozenset({"a", "b"})))
    assert [(job.id, job.starts, job.attempt) for job in jobs] == [
        (parked.id, 1, 1),
        (again.id, 2, 2),
        (fresh.id, 1, 1),
    ]
    for job in jobs:
        now_running = store.get(job.id)
        assert (now_running.state, now_running.starts, now_running.attempt) == (
            JobState.RUNNING,
            job.starts,
            job.attempt,
        )
        # Nothing of an earlier start is told of this one.
        assert (now_running.progress, now_running.worker_pid, now_running.blocked_reason) == (None, None, None)
        assert (now_running.cpu_s, now_running.max_rss_bytes) == (None, None)
        assert now_running.started_at == now_running.created_at.fromtimestamp(
            clock.now().wall_us / 1e6, now_running.created_at.tzinfo
        )


def test_due_and_parked_jobs_of_a_limited_queue_share_its_limit(
    store: Store, enqueue: Enqueue, desk: Desk
) -> None:
    for _ in range(3):
        enqueue("b", queue="tight")
    desk.claim(claim=request("tight", names=frozenset()))
    for _ in range(3):
        enqueue("a", queue="tight")
    other = [enqueue("a", queue="wide").id for _ in range(2)]
    wanted = request("tight", "wide", limits={"tight": 2}, names=frozenset({"a", "b"}))
    claimed = desk.claim(50, wanted)
    assert [job.queue for job in claimed].count("tight") == 2
    assert [job.id for job in claimed if job.queue == "wide"] == other
    assert store.counts()[JobState.RUNNING] == 4


def test_a_limited_queue_is_looked_at_again_behind_jobs_that_were_refused(enqueue: Enqueue, desk: Desk) -> None:
    for _ in range(2):
        enqueue("b", queue="tight", priority=1)
    known = enqueue("a", queue="tight")
    enqueue("a", queue="wide")
    wanted = request("tight", "wide", limits={"tight": 2}, names=frozenset({"a"}))
    first = desk.commit(slots=9, claim=wanted)
    assert first.parked == {"no handler 'b' in this engine; registered: a": 2}
    assert first.has_more
    assert [job.id for job in desk.claim(9, wanted)] == [known.id]


@pytest.mark.parametrize("queues", [1, 2, 99, 250])
def test_any_number_of_queues_is_claimed_in_one_order(store: Store, desk: Desk, queues: int) -> None:
    dice = random.Random(queues)
    for _ in range(300):
        template = NewJob(name="a", payload=b"", queue=f"q{dice.randrange(queues)}", priority=dice.randrange(3))
        store.enqueue_many(AlikeJobs(template, [b"{}"] * 2))
    wanted = request(*[f"q{n}" for n in range(queues)])
    claimed = desk.claim(128, wanted) + desk.claim(1000, wanted)
    assert len(claimed) == 600
    assert claimed == sorted(claimed, key=lambda job: (-job.priority, job.run_at_us, job.id))
    assert len({job.id for job in claimed}) == 600


@pytest.mark.parametrize("count", [1, 7, 8, 9, 63, 64, 65, 200])
def test_any_number_of_outcomes_is_recorded(store: Store, desk: Desk, now: Instant, count: int) -> None:
    ids = store.enqueue_many(
        AlikeJobs(NewJob(name="a", payload=b""), [b'{"n":%d}' % n for n in range(count)])
    ).ids
    claimed = desk.claim(count)
    assert [job.payload for job in claimed] == [b'{"n":%d}' % n for n in range(count)]
    results = {job.id: msgspec.json.encode(f"result {job.id}") for job in claimed}
    assert desk.commit(*[completed(job, now, results[job.id]) for job in claimed]).rejected == []
    assert store.counts()[JobState.COMPLETED] == count
    for job_id in (ids[0], ids[count // 2], ids[-1]):
        assert store.get(job_id).result == f"result {job_id}"


def test_outcomes_of_every_kind_are_recorded_in_one_turn(
    store: Store, enqueue: Enqueue, desk: Desk, now: Instant
) -> None:
    for _ in range(5):
        enqueue()
    one, two, three, four, five = desk.claim()
    outcomes = [
        failed(one, now),
        completed(two, now),
        retrying(three, now),
        completed(four, now, result=b'"%s"' % (b"r" * 5000)),
        released(five, now),
    ]
    assert desk.commit(*outcomes).rejected == []
    states = [store.get(job.id).state.value for job in (one, two, three, four, five)]
    assert states == ["failed", "completed", "retrying", "completed", "pending"]
    assert [len(store.attempts(job.id)) for job in (one, two, three, four, five)] == [1, 1, 1, 1, 0]


# ---------------------------------------------------------------- the history


RUN = Run(started_us=5_000_000, duration_us=7, worker_pid=8, cpu_us=9, max_rss_bytes=10)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attempt": 0},
        {"error": ERROR},
        {"cause": Cause.LEASE_LOST},
        {"result": None},
        {"result": b'"%s"' % (b"r" * 3000)},
        {"run": msgspec.structs.replace(RUN, duration_us=None)},
        {"run": msgspec.structs.replace(RUN, worker_pid=None, cpu_us=None, max_rss_bytes=None)},
        {"run": None},
    ],
    ids=repr,
)
def test_whatever_a_completed_start_was_the_history_has_it(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock, changes: dict[str, Any]
) -> None:
    job = enqueue()
    (first,) = desk.claim()
    desk.commit(retrying(first, clock.now(), in_s=0))
    (second,) = desk.claim()
    at = clock.advance(1)
    outcome = msgspec.structs.replace(completed(second, at), **{"run": RUN, **changes})
    assert desk.commit(outcome).rejected == []
    _assert_recorded(store, job, outcome)


def _assert_recorded(store: Store, job: Job, outcome: Transition) -> None:
    kept = store.get(job.id)
    assert (kept.state, kept.attempt, kept.starts) == (JobState.COMPLETED, outcome.attempt, 2)
    assert kept.result == (None if outcome.result is None else msgspec.json.decode(outcome.result))
    history = store.attempts(job.id)
    run = outcome.run
    assert [each.starts for each in history] == ([1, 2] if run is not None else [1])
    if run is None:
        return
    last = history[-1]
    assert (last.attempt, last.cause, last.error) == (2, outcome.cause, outcome.error)
    assert (last.worker_pid, last.max_rss_bytes) == (run.worker_pid, run.max_rss_bytes)
    assert last.duration_s == (None if run.duration_us is None else run.duration_us / 1e6)
    assert last.cpu_s == (None if run.cpu_us is None else run.cpu_us / 1e6)
    assert last.started_at.timestamp() == run.started_us / 1e6
    assert last.finished_at == kept.completed_at

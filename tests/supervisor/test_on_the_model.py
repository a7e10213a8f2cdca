"""The contract is not SQLite in disguise: a supervisor with real workers runs its jobs from the model, dicts and lists."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from random import Random

import pytest

from mpdispatch.clock import SECOND_US
from mpdispatch.config import QueueConfig
from mpdispatch.model import Cause, JobState
from mpdispatch.store.contract import Store
from mpdispatch.store.filters import DeadLetterFilter
from mpdispatch.store.optional import NoUpkeep
from mpdispatch.store.supervisor_contract import SupervisorStore
from tests.conformance.model_store import ModelStore
from tests.supervisor.conftest import Build
from tests.supervisor.house import ShiftedClock


@pytest.fixture
def store(clock: ShiftedClock) -> ModelStore:
    return ModelStore(clock)


def test_the_model_store_is_a_store(store: ModelStore) -> None:
    for face in (Store, SupervisorStore):
        missing = [name for name in vars(face) if not name.startswith("_") and not hasattr(store, name)]
        assert missing == []


def test_jobs_of_every_outcome_end_as_they_should(build: Build, store: ModelStore, tmp_path: Path) -> None:
    house = build(store=store, config={"concurrency": 2})
    done = house.enqueue("echo", value=[1, "two"])
    again = house.enqueue("fails_then_works", path=tmp_path / "tries", failures=2)
    failed = house.enqueue("boom", {"max_retries": 0})
    late = house.enqueue("hold", {"timeout_us": 200_000, "max_retries": 0}, started=tmp_path / "late")
    jobs = house.ended(done, again, failed, late)
    assert [job.state for job in jobs] == ["completed", "completed", "failed", "failed"]
    assert jobs[0].result == [1, "two"]
    assert house.causes(again) == [Cause.ERROR, Cause.ERROR, Cause.COMPLETED]
    assert house.causes(late) == [Cause.TIMEOUT]
    assert {letter.id for letter in store.dead_letters(DeadLetterFilter(), limit=9, cursor=None).items} == {
        failed,
        late,
    }
    assert store.replay(failed).retried_from == failed


def test_a_running_job_is_cancelled_and_one_whose_worker_dies_runs_again(
    build: Build, store: ModelStore, tmp_path: Path
) -> None:
    house = build(store=store)
    cancelled = house.enqueue("hold", started=tmp_path / "one")
    house.until((tmp_path / "one").exists)
    store.cancel(cancelled)
    store.wake()
    assert house.until_state(cancelled, JobState.CANCELLED).state is JobState.CANCELLED
    killed = house.enqueue("hold", started=tmp_path / "two", gate=tmp_path / "gate")
    house.until((tmp_path / "two").exists)
    (tmp_path / "gate").touch()
    os.kill(house.workers[0].pid, signal.SIGKILL)
    house.ended(killed)
    assert house.causes(killed)[-1] is Cause.COMPLETED


def test_what_is_paused_limited_or_put_off_waits(build: Build, store: ModelStore, tmp_path: Path) -> None:
    limits = (QueueConfig("narrow", max_concurrency=1),)
    house = build(
        store=store, queue_configs=limits, config={"concurrency": 3, "queues": ("default", "narrow", "shut")}
    )
    store.set_paused("shut", True)
    shut = house.enqueue("noop", {"queue": "shut"})
    put_off = house.enqueue("noop", {"delay_us": 3600 * SECOND_US})
    narrow = [
        house.enqueue("hold", {"queue": "narrow"}, started=tmp_path / f"{n}", gate=tmp_path / "gate")
        for n in "ab"
    ]
    house.until((tmp_path / "a").exists)
    house.ended(house.enqueue("noop"))
    assert [house.state(each) for each in (shut, put_off, *narrow)] == [
        "pending",
        "scheduled",
        "running",
        "pending",
    ]
    (tmp_path / "gate").touch()
    store.set_paused("shut", False)
    house.clock.advance(3600)
    house.ended(shut, put_off, *narrow)


def test_a_drain_ends_when_there_is_no_more_to_do(build: Build, store: ModelStore) -> None:
    house = build(store=store, drain=True)
    ids = [house.enqueue("noop") for _ in range(200)]
    house.until(lambda: house.report is not None)
    assert house.report is not None
    assert (house.report.exit_code, house.report.completed) == (0, 200)
    assert {house.state(each) for each in ids} == {JobState.COMPLETED}
    assert store.supervisors() == []


def test_what_a_lost_lease_leaves_is_taken_over(build: Build, store: ModelStore, tmp_path: Path) -> None:
    first = build(store=store)
    job_id = first.enqueue("hold", started=tmp_path / "began", gate=tmp_path / "gate")
    first.until((tmp_path / "began").exists)
    first.supervisor.close()  # its workers end with it; its registration stays
    (tmp_path / "gate").touch()
    second = build(store=store)
    second.clock.advance(second.config.stale_job_threshold + 1)
    (job,) = second.ended(job_id)
    assert (job.state, job.starts) == (JobState.COMPLETED, 2)
    assert len(store.supervisors()) == 1


def test_upkeep_is_optional(build: Build, store: ModelStore) -> None:
    store.upkeep = NoUpkeep()  # type: ignore[assignment]
    house = build(store=store, drain=True, config={"retention": 1.0})
    job_id = house.enqueue("echo", value=1)
    assert house.until(lambda: house.report).completed == 1
    house.clock.advance(60)
    assert house.state(job_id) is JobState.COMPLETED


# What a job of each kind needs, and the causes of its starts unless somebody cancels it.
KINDS: dict[str, tuple[dict[str, object], dict[str, object], list[Cause]]] = {
    "noop": ({}, {}, [Cause.COMPLETED]),
    "echo": ({}, {"value": 7}, [Cause.COMPLETED]),
    "boom": ({"max_retries": 1}, {}, [Cause.ERROR, Cause.ERROR]),
    "fails_then_works": ({}, {"failures": 2}, [Cause.ERROR, Cause.ERROR, Cause.COMPLETED]),
    "snooze_once": ({}, {"seconds": 0.05}, [Cause.SNOOZE, Cause.COMPLETED]),
    "hold": ({"timeout_us": 50_000, "max_retries": 0}, {"started": "/dev/null"}, [Cause.TIMEOUT]),
    "sleep": ({}, {"seconds": 0.01}, [Cause.COMPLETED]),
}


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_asked_of_a_store_meanwhile_each_job_ends_as_its_kind_does(
    build: Build, store: ModelStore, tmp_path: Path, seed: int
) -> None:
    random = Random(seed)
    queues = ("default", "narrow", "rated", "shut")
    limits = (QueueConfig("narrow", max_concurrency=1), QueueConfig("rated", rate_limit=50, rate_burst=2))
    house = build(store=store, queue_configs=limits, config={"concurrency": 3, "queues": queues})
    kinds, cancelled, replayed = dict[int, str](), set[int](), set[int]()

    def enqueue() -> None:
        kind = random.choice([*KINDS])
        options, payload, _ = KINDS[kind]
        if kind == "fails_then_works":
            payload = {**payload, "path": tmp_path / f"tries{len(kinds)}"}
        more = {
            "queue": random.choice(queues),
            "priority": random.choice([0, 0, 5]),
            "delay_us": random.choice([0, 0, 0, 100_000]),
        }
        kinds[house.enqueue(kind, {**options, **more}, **payload)] = kind

    def cancel() -> None:
        job_id = random.choice([*kinds])
        if not house.state(job_id).is_terminal:
            cancelled.add(job_id)
            store.cancel(job_id)
            store.wake()

    def replay() -> None:
        failed = [each for each in kinds if house.state(each) is JobState.FAILED and each not in replayed]
        if failed:
            replayed.add(failed[0])
            kinds[store.replay(failed[0]).id] = kinds[failed[0]]

    enqueue()
    for _ in range(60):
        random.choice([enqueue, enqueue, enqueue, cancel, replay, lambda: store.set_paused("shut", True)])()
        house.steps(random.randint(0, 4))
    store.set_paused("shut", False)
    house.ended(*kinds)
    for job_id, kind in kinds.items():
        causes, expected = house.causes(job_id), KINDS[kind][2]
        if house.state(job_id) is JobState.CANCELLED:
            assert job_id in cancelled
            assert causes[:-1] == expected[: len(causes)][:-1]
        else:
            assert causes == expected, f"job {job_id}, {kind}"
    letters = store.dead_letters(DeadLetterFilter(is_replayed=None), limit=1000, cursor=None).items
    assert {each.id for each in letters} == {each for each in kinds if house.state(each) is JobState.FAILED}
    assert (house.wiring.in_flight.stale_writes, store.jobs_of(house.owner)) == (0, [])

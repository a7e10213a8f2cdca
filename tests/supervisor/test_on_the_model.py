"""The contract is not SQLite in disguise: a supervisor with real workers runs its jobs from the model, dicts and lists."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from mpdispatch.clock import SECOND_US
from mpdispatch.config import QueueConfig
from mpdispatch.model import Cause, JobState
from mpdispatch.store.contract import Store, SupervisorStore
from mpdispatch.store.filters import DeadLetterFilter
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

"""Jobs of rate-limited queues: claimed for a worker that begins them at once, or not at all."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from mpdispatch.config import QueueConfig
from mpdispatch.model import JobState
from tests.pool.probes import lives
from tests.supervisor.conftest import Build
from tests.supervisor.house import House

TWO_QUEUES = {"queues": ["default", "rated"]}


def _house(build: Build, per_s: float, burst: int = 1, **config: object) -> House:
    limits = (QueueConfig("rated", rate_limit=per_s, rate_burst=burst),)
    return build(config={**TWO_QUEUES, **config}, queue_configs=limits)


def _is_uncharged(house: House, job_id: int) -> bool:
    return house.state(job_id) is JobState.PENDING and house.store.queue_state("rated").bucket is None


def _hold(house: House, tmp_path: Path, name: str = "started", **options: object) -> int:
    """A job that runs until the gate is opened; it runs."""
    job_id = house.enqueue("hold", dict(options), started=tmp_path / name, gate=tmp_path / "gate")
    house.until((tmp_path / name).exists, what="a job that holds its worker")
    return job_id


def test_no_token_is_charged_for_a_worker_that_is_not_up_yet(build: Build, tmp_path: Path) -> None:
    house = _house(build, 1, concurrency=2)
    held = _hold(house, tmp_path)
    rated = house.enqueue("noop", {"queue": "rated"})
    house.until(lambda: len(house.workers) == 2, what="a worker for it, though nothing was claimed")
    while len(house.runtime.pool.ready) < 2:
        assert _is_uncharged(house, rated)
        house.step()
    (job,) = house.ended(rated)
    assert job.starts == 1
    (tmp_path / "gate").touch()
    house.ended(held)


def test_no_more_workers_are_started_than_there_are_tokens(build: Build, tmp_path: Path) -> None:
    house = _house(build, 0.01, burst=2, concurrency=8)
    ids = [
        house.enqueue("hold", {"queue": "rated"}, started=tmp_path / f"s{n}", gate=tmp_path / "gate")
        for n in range(6)
    ]
    house.until(lambda: sum((tmp_path / f"s{n}").exists() for n in range(6)) == 2, what="as many as tokens")
    for _ in range(5):
        house.clock.advance(1)
        house.steps(10)
    assert len(house.workers) == 2
    assert [house.state(job_id) for job_id in ids].count(JobState.RUNNING) == 2
    (tmp_path / "gate").touch()


@pytest.mark.parametrize("prefetch_window", [0.05, 0.0])
def test_it_has_its_turn_among_many_other_jobs_and_none_that_comes_after_it_goes_before(
    build: Build, prefetch_window: float
) -> None:
    house = _house(build, 1, prefetch_window=prefetch_window)
    house.ended(*[house.enqueue("uneven") for _ in range(20)])
    ids = [house.enqueue("uneven", {"queue": "rated"} if n == 60 else {}, seconds=0.002) for n in range(150)]
    started = {job.id: job.started_at for job in house.ended(*ids)}
    assert sorted(ids, key=lambda job_id: started[job_id]) == ids
    assert house.job(ids[60]).starts == 1


def test_it_is_not_queued_behind_another_job(build: Build, tmp_path: Path) -> None:
    house = _house(build, 50, prefetch_window=1.0)
    house.ended(*[house.enqueue("uneven") for _ in range(30)])
    for _ in range(30):
        house.enqueue("uneven", seconds=0.02)
    ids = [house.enqueue("uneven", {"queue": "rated"}) for _ in range(3)]
    seen = set[int]()

    def have_ended() -> bool:
        for worker in house.workers:
            at = [n for n, held in enumerate(worker.assigned) if held.job.queue == "rated"]
            seen.update(at)
        return all(house.state(job_id).is_terminal for job_id in ids)

    house.until(have_ended)
    assert seen <= {0}


def test_one_that_is_not_begun_goes_back_and_costs_another_token(build: Build) -> None:
    house = _house(build, 0.01)
    (worker,) = house.ready()
    os.kill(worker.pid, signal.SIGSTOP)
    job_id = house.enqueue("noop", {"queue": "rated"})
    house.until(lambda: worker.assigned, what="the job is given to it")
    for _ in range(3):
        house.clock.advance(3)
        house.steps(5)
    house.until(lambda: not lives(worker.pid), what="its end")
    house.ready()
    house.until(lambda: house.state(job_id) is JobState.PENDING, what="the job goes back")
    house.steps(30)
    assert (house.state(job_id), house.job(job_id).attempt) == (JobState.PENDING, 0)
    house.clock.advance(100)
    (job,) = house.ended(job_id)
    assert (job.starts, job.attempt) == (2, 1)


def test_a_supervisor_sleeps_while_jobs_wait_for_a_worker(build: Build, tmp_path: Path) -> None:
    house = _house(build, 20, concurrency=2, poll_interval=1.0)
    held = [_hold(house, tmp_path, f"s{n}") for n in range(2)]
    rated = [house.enqueue("noop", {"queue": "rated"}) for _ in range(3)]
    house.steps(20)
    before = len(house.waits)
    house.steps(60)
    assert sum(wait_s < 0.005 for wait_s in house.waits[before:]) <= 6, house.waits[before:]
    (tmp_path / "gate").touch()
    house.ended(*held, *rated)

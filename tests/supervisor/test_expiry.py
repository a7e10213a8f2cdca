"""A job that was not started in time is cancelled, wherever it waits; and only such a job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mpdispatch.clock import SECOND_US
from mpdispatch.model import Cause, Job, JobState
from tests.supervisor.conftest import Build
from tests.supervisor.house import House
from tests.supervisor.peers import Peer, enqueued

SOON = {"expires_us": 5 * SECOND_US}
DAY_S = 86_400.0


def _hold(house: House, tmp_path: Path, **options: object) -> int:
    job_id = house.enqueue("hold", options or None, started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    return job_id


def _expired(house: House, job_id: int) -> Job:
    """The job, which has ended by expiring, with one entry in its history."""
    (job,) = house.ended(job_id)
    entry = house.attempt(job_id)
    assert (job.state, job.attempt, job.started_at) == (JobState.CANCELLED, 0, None)
    assert (entry.cause, entry.starts) == (Cause.EXPIRED, job.starts)
    assert entry.started_at == entry.finished_at == job.completed_at
    assert job.last_error is not None
    assert job.last_error == entry.error
    assert job.last_error.type == "JobExpired"
    return job


def test_a_job_that_was_started_in_time_runs_as_any_other(house: House) -> None:
    (job,) = house.ended(house.enqueue("echo", SOON, value=7))
    assert (job.state, job.result, job.expires_at) == (JobState.COMPLETED, 7, None)
    assert house.causes(job.id) == [Cause.COMPLETED]


def test_in_a_paused_queue(house: House) -> None:
    house.ready()
    house.store.set_paused("default", True)
    job_id, other = house.enqueue("noop", SOON), house.enqueue("noop")
    house.clock.advance(4)
    house.steps(50)
    assert house.state(job_id) is JobState.PENDING
    house.clock.advance(2)
    assert _expired(house, job_id).starts == 0
    assert house.state(other) is JobState.PENDING


def test_in_a_queue_that_nobody_polls(house: House) -> None:
    job_id = house.enqueue("noop", {**SOON, "queue": "elsewhere"})
    house.clock.advance(6)
    _expired(house, job_id)


def test_with_a_name_that_nobody_knows(house: House) -> None:
    job_id = house.enqueue("unknown", SOON)
    house.until(lambda: house.job(job_id).blocked_reason)
    house.clock.advance(6)
    assert _expired(house, job_id).blocked_reason is None


def test_scheduled_for_a_time_at_which_no_supervisor_ran(build: Build) -> None:
    house = build()
    job_id = house.enqueue("noop", {"delay_us": SECOND_US, **SOON})
    house.clock.advance(6)
    _expired(house, job_id)


def test_while_all_workers_are_busy(house: House, tmp_path: Path) -> None:
    running = _hold(house, tmp_path)
    job_id = house.enqueue("noop", SOON)
    house.clock.advance(6)
    _expired(house, job_id)
    assert house.state(running) is JobState.RUNNING


def test_a_running_job_does_not_expire(house: House, tmp_path: Path) -> None:
    job_id = _hold(house, tmp_path, **SOON)
    house.clock.advance(60)
    house.steps(100)
    (tmp_path / "gate").touch()
    assert house.ended(job_id)[0].state is JobState.COMPLETED


def test_a_worker_looks_once_more_before_it_calls_the_handler(house: House, tmp_path: Path) -> None:
    """The worker goes by the machine's clock, an hour ahead of ours."""
    house.clock.set_wall(-3600)
    job_id = house.enqueue("hold", SOON, started=tmp_path / "started", gate=tmp_path / "gate")
    assert _expired(house, job_id).starts == 1
    assert not (tmp_path / "started").exists()
    (after,) = house.ended(house.enqueue("noop"))
    assert after.state is JobState.COMPLETED


def test_a_retry_may_be_late(house: House) -> None:
    job_id = house.enqueue("boom", {"max_retries": 1, **SOON})
    house.until_state(job_id, JobState.RETRYING)
    assert house.job(job_id).expires_at is None
    house.clock.advance(60)
    assert house.ended(job_id)[0].state is JobState.FAILED
    assert house.causes(job_id) == [Cause.ERROR, Cause.ERROR]


def test_a_snoozed_job_may_be_late(house: House) -> None:
    job_id = house.enqueue("snooze_once", SOON, seconds=2)
    house.until_state(job_id, JobState.SCHEDULED)
    house.clock.advance(60)
    assert house.ended(job_id)[0].state is JobState.COMPLETED


def test_a_retry_of_an_expired_job_does_not_expire(house: House) -> None:
    house.store.set_paused("default", True)
    job_id = house.enqueue("noop", SOON)
    house.clock.advance(6)
    _expired(house, job_id)
    house.store.set_paused("default", False)
    again = house.store.retry(job_id)
    assert again.expires_at is None
    assert house.ended(again.id)[0].state is JobState.COMPLETED


def test_the_clock_decides_set_back_or_forth(house: House) -> None:
    house.ready()
    house.store.set_paused("default", True)
    job_id = house.enqueue("noop", SOON)
    house.clock.set_wall(-DAY_S)
    house.clock.advance(60)
    house.steps(100)
    assert house.state(job_id) is JobState.PENDING, "it is a day until then again"
    house.clock.set_wall(DAY_S)
    _expired(house, job_id)


def test_two_supervisors_end_each_job_once(build: Build) -> None:
    one, two = build(), build()
    one.ready()
    two.ready()
    one.store.set_paused("default", True)
    ids = [one.enqueue("noop", SOON) for _ in range(1200)]
    one.clock.advance(6)

    def step_both() -> bool:
        two.step()
        return one.store.counts()[JobState.CANCELLED] == len(ids)

    one.until(step_both)
    two.steps(20)
    one.steps(20)
    for job_id in ids:
        _expired(one, job_id)


@pytest.mark.parametrize("count", [1, 3])
def test_expired_jobs_of_a_killed_supervisor_that_it_had_not_begun(
    build: Build, peer: Callable[..., Peer], tmp_path: Path, count: int
) -> None:
    dead = peer()
    ids = enqueued(tmp_path, count, **SOON)
    assert len(dead.claim(count)) == count
    dead.die()
    house = build()
    house.clock.advance(6)
    for job_id in ids:
        assert _expired(house, job_id).starts == 1


def test_a_job_that_a_killed_supervisor_had_begun_may_be_late(
    build: Build, peer: Callable[..., Peer], tmp_path: Path
) -> None:
    dead = peer()
    (job_id,) = enqueued(tmp_path, 1, max_retries=1, **SOON)
    dead.start(dead.record(), dead.claim(1)[0])
    dead.die()
    house = build()
    house.clock.advance(6)
    house.until(lambda: house.state(job_id) is not JobState.RUNNING)
    house.clock.advance(60)
    house.ended(job_id)
    assert house.causes(job_id) == [Cause.LEASE_LOST, Cause.COMPLETED]


def test_many_expired_jobs_are_told_in_a_few_lines(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.ready()
    house.store.set_paused("default", True)
    ids = [house.enqueue("noop", SOON) for _ in range(25)]
    house.clock.advance(6)
    for job_id in ids:
        _expired(house, job_id)
    house.until(lambda: "and 15 more jobs that had expired" in caplog.text)
    assert caplog.text.count("it was not started by") == 10

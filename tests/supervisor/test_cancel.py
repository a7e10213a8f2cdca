"""A cancel reaches a job wherever it is: in the backlog, in a worker's buffer, in its handler."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mpdispatch.model import AlikeJobs, Cause, JobState, NewJob
from tests.pool.probes import lives, pid_in, until
from tests.supervisor.conftest import Build
from tests.supervisor.house import House


def _cancel(house: House, job_id: int) -> None:
    house.store.cancel(job_id)


def _queued(build: Build, tmp_path: Path) -> tuple[House, list[int]]:
    """A worker that runs the first of these jobs and has the others in its buffer."""
    house = build(config={"prefetch_window": 5.0})
    house.ended(house.enqueue("hold", started=tmp_path / "first", gate="/"))
    ids = [house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")]
    ids += [house.enqueue("hold", started=tmp_path / f"waiting{n}", gate="/") for n in range(3)]
    house.until((tmp_path / "started").exists)
    house.until(lambda: len(house.workers[0].assigned) == 4)
    return house, ids


def test_a_running_job_is_interrupted_and_its_worker_lives_on(house: House, tmp_path: Path) -> None:
    job_id = house.enqueue("hold", started=tmp_path / "started")
    worker = house.until(lambda: (tmp_path / "started").exists() and house.workers[0])
    _cancel(house, job_id)
    (job,) = house.ended(job_id)
    assert job.state is JobState.CANCELLED
    assert house.causes(job_id) == [Cause.CANCELLED]
    assert house.workers == [worker]
    assert house.ended(house.enqueue("noop"))[0].worker_pid == worker.pid


def test_a_running_job_that_will_not_end_is_killed_after_the_grace(build: Build, tmp_path: Path) -> None:
    house = build(config={"cancel_grace": 0.2})
    job_id = house.enqueue("stubborn", started=tmp_path / "started")
    house.until((tmp_path / "started").exists)
    (worker,) = house.workers
    _cancel(house, job_id)
    (job,) = house.ended(job_id)
    assert job.state is JobState.CANCELLED
    assert house.causes(job_id) == [Cause.CANCELLED]
    assert not lives(worker.pid)


def test_a_result_that_came_before_the_kill_counts(house: House, tmp_path: Path) -> None:
    # It swallows the interrupt and returns what it has.
    job_id = house.enqueue("stubborn", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    _cancel(house, job_id)
    house.until(lambda: house.workers[0].assigned[0].stop_reason)
    (tmp_path / "gate").touch()
    (job,) = house.ended(job_id)
    assert job.state is JobState.COMPLETED


def test_a_job_in_a_workers_buffer_is_taken_back_and_cancelled_unstarted(build: Build, tmp_path: Path) -> None:
    house, (running, first, second, third) = _queued(build, tmp_path)
    (worker,) = house.workers
    _cancel(house, second)
    (job,) = house.ended(second)
    assert job.state is JobState.CANCELLED
    assert house.causes(second) == []
    (tmp_path / "gate").touch()
    others = house.ended(running, first, third)
    assert [job.state for job in others] == [JobState.COMPLETED] * 3
    assert not (tmp_path / "waiting1").exists()
    assert house.workers == [worker]


def test_a_job_in_the_backlog_is_cancelled_unstarted(build: Build, tmp_path: Path) -> None:
    house, (running, first, second, third) = _queued(build, tmp_path)
    in_flight = house.wiring.in_flight
    in_flight.put_back(house.workers[0].recall(), house.clock.now().boot_us)
    assert [job.id for job in in_flight.backlog] == [first, second, third]
    _cancel(house, first)
    (job,) = house.ended(first)
    assert job.state is JobState.CANCELLED
    assert house.causes(first) == []
    (tmp_path / "gate").touch()
    house.ended(running, second, third)
    assert not (tmp_path / "waiting0").exists()


def test_a_cancel_that_finds_nothing_of_ours_changes_nothing(house: House, tmp_path: Path) -> None:
    job_id = house.enqueue("noop", {"run_at_us": house.clock.now().wall_us + 60_000_000})
    house.ready()
    _cancel(house, job_id)
    house.steps(5)
    assert house.state(job_id) is JobState.CANCELLED
    assert house.job(job_id).starts == 0


def test_a_cancel_asked_while_the_knock_was_lost_is_seen_by_the_next_heartbeat(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = house.enqueue("hold", started=tmp_path / "started")
    house.until((tmp_path / "started").exists)
    with monkeypatch.context() as patched:
        patched.setattr(house.store, "wake", lambda: None)
        _cancel(house, job_id)
    house.steps(5)
    assert house.state(job_id) is JobState.RUNNING
    house.clock.advance(house.config.heartbeat_interval)
    assert house.ended(job_id)[0].state is JobState.CANCELLED


def test_a_cancel_during_a_job_that_then_fails_is_not_retried(house: House, tmp_path: Path) -> None:
    job_id = house.enqueue("stubborn", {"max_retries": 3}, started=tmp_path / "started")
    pid = house.until(lambda: (tmp_path / "started").exists() and pid_in(tmp_path / "started"))
    _cancel(house, job_id)
    house.until(lambda: house.workers[0].assigned[0].stop_reason)
    os.kill(pid, signal.SIGKILL)
    (job,) = house.ended(job_id)
    assert (job.state, job.starts) == (JobState.CANCELLED, 1)


def test_a_job_that_fails_as_it_is_cancelled_is_not_said_to_run_again(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    (worker,) = house.ready()
    job_id = house.enqueue("boom")
    until(lambda: house.supervisor.tick() and worker.assigned)  # and nothing is heard meanwhile
    until(worker.has_unread)
    _cancel(house, job_id)
    with caplog.at_level(logging.DEBUG):
        (job,) = house.ended(job_id)
    assert job.state is JobState.CANCELLED
    (said,) = [text for text in caplog.messages if text.startswith(f"job {job_id} ")]
    assert said.startswith(f"job {job_id} (boom) was cancelled: ")


def _execute(house: House, sql: str) -> list[tuple[int]]:
    """Run this on the store's file, past its face."""
    with closing(sqlite3.connect(house.folder / "jobs.db", isolation_level=None)) as connection:
        return connection.execute(sql).fetchall()


def _requests(house: House) -> int:
    """How many requests to cancel the store still holds."""
    return _execute(house, "SELECT count(*) FROM mpdispatch_jobs WHERE cancel_requested_us IS NOT NULL")[0][0]


def test_requests_that_came_too_late_are_forgotten_those_of_others_too(build: Build) -> None:
    house = build(config={"poll_interval": 60.0})
    ids = house.store.enqueue_many(AlikeJobs(NewJob(name="noop", payload=b""), [b"{}"] * 3500)).ids
    house.until(lambda: house.store.counts()[JobState.COMPLETED] == len(ids), timeout_s=30)
    _execute(house, "UPDATE mpdispatch_jobs SET cancel_requested_us = 1")
    house.steps(5)
    house.store.wake()  # or the next heartbeat
    house.until(lambda: _requests(house) == 0, what="an index without them")
    house.steps(5)
    assert house.waits[-1] > 0.1, "nothing is left to do"
    assert house.store.counts()[JobState.COMPLETED] == len(ids)


def test_a_request_is_answered_while_many_that_came_too_late_are_there(house: House, tmp_path: Path) -> None:
    ended = [house.enqueue("noop") for _ in range(50)]
    house.ended(*ended)
    job_id = house.enqueue("hold", started=tmp_path / "started")
    house.until((tmp_path / "started").exists)
    _execute(house, "UPDATE mpdispatch_jobs SET cancel_requested_us = 1 WHERE state = 'completed'")
    _cancel(house, job_id)
    assert house.ended(job_id)[0].state is JobState.CANCELLED

"""Drains and stops: what may finish finishes, what may not goes back at once, and the exit code says which."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from mpdispatch.errors import StoreBusy
from mpdispatch.host.runtime_folder import runtime_folder
from mpdispatch.host.start_journal import journal_path
from mpdispatch.model import Cause, JobState
from mpdispatch.store.sqlite.supervisor_store import SQLiteSupervisorStore
from tests.pool.probes import lives
from tests.supervisor.conftest import Build
from tests.supervisor.house import House


def _ended(house: House, timeout_s: float = 10.0) -> int:
    return int(house.until(lambda: house.report, timeout_s=timeout_s, what="the end").exit_code)


def _holding(house: House, tmp_path: Path, name: str = "hold", **options: object) -> int:
    job_id = house.enqueue(name, options or None, started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    return job_id


def _signed_off(house: House) -> bool:
    return house.store.supervisors() == []


# ---------------------------------------------------------------- stopping


def test_an_idle_supervisor_stops_at_once_and_signs_off(house: House) -> None:
    house.ready()
    workers, journal = list(house.workers), journal_path(runtime_folder(house.store), house.owner)
    assert journal.exists()
    house.runtime.stop_signal.request()
    assert _ended(house, 2) == 0
    assert _signed_off(house)
    assert not any(lives(worker.pid) for worker in workers)
    assert not journal.exists()


def test_a_stop_signs_off_although_the_store_is_busy_for_a_moment(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process that lives on, a row left behind would look alive until its lease ends."""
    real, tries = SQLiteSupervisorStore.unregister, []

    def busy_at_first(supervisor_store: SQLiteSupervisorStore, owner: int) -> None:
        tries.append(owner)
        if len(tries) < 4:
            raise StoreBusy("jobs.db")
        real(supervisor_store, owner)

    monkeypatch.setattr(SQLiteSupervisorStore, "unregister", busy_at_first)
    house.ready()
    house.runtime.stop_signal.request()
    assert _ended(house, 2) == 0
    assert _signed_off(house)


def test_a_stop_waits_for_what_runs_and_claims_nothing_more(house: House, tmp_path: Path) -> None:
    job_id = _holding(house, tmp_path)
    house.runtime.stop_signal.request()
    house.steps(5)
    late = house.enqueue("noop")
    house.steps(10)
    assert house.report is None
    (tmp_path / "gate").touch()
    assert _ended(house) == 0
    assert house.state(job_id) is JobState.COMPLETED
    assert (house.state(late), house.job(late).starts) == (JobState.PENDING, 0)
    assert _signed_off(house)


def test_a_stop_keeps_the_lease_of_what_runs(house: House, tmp_path: Path) -> None:
    job_id = _holding(house, tmp_path)
    house.runtime.stop_signal.request(patience_s=10_000)
    owner = house.owner
    for _ in range(8):
        house.clock.advance(house.config.heartbeat_interval)
        house.steps(3)
    assert house.owner == owner
    (tmp_path / "gate").touch()
    assert _ended(house) == 0
    assert (house.state(job_id), house.job(job_id).starts) == (JobState.COMPLETED, 1)


def test_jobs_not_begun_go_back_at_once_and_unspent(build: Build, tmp_path: Path) -> None:
    house = build(config={"prefetch_window": 5.0})
    house.ended(house.enqueue("hold", started=tmp_path / "first", gate="/"))
    running = house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    waiting = [house.enqueue("hold", started=tmp_path / "never", gate="/") for _ in range(3)]
    house.until((tmp_path / "started").exists)
    house.until(lambda: len(house.workers[0].assigned) == 4)
    house.runtime.stop_signal.request()
    for job_id in waiting:
        job = house.until_state(job_id, JobState.PENDING)
        assert (job.attempt, job.starts) == (0, 1)
        assert house.causes(job_id) == []
    assert house.state(running) is JobState.RUNNING
    (tmp_path / "gate").touch()
    assert _ended(house) == 0
    assert not (tmp_path / "never").exists()


def test_past_its_patience_a_stop_asks_and_the_job_goes_back_unspent(build: Build, tmp_path: Path) -> None:
    house = build(config={"shutdown_timeout": 3})
    job_id = _holding(house, tmp_path)
    house.runtime.stop_signal.request()
    house.steps(3)
    house.clock.advance(house.config.shutdown_timeout)
    assert _ended(house) == 75
    job = house.job(job_id)
    assert (job.state, job.attempt, job.starts) == (JobState.PENDING, 0, 1)
    assert house.causes(job_id) == [Cause.ABORTED]
    assert _signed_off(house)


def test_a_job_that_may_never_start_twice_fails_when_aborted(house: House, tmp_path: Path) -> None:
    job_id = _holding(house, tmp_path, max_retries=0)
    house.runtime.stop_signal.request(patience_s=0.0)
    assert _ended(house) == 75
    assert house.state(job_id) is JobState.FAILED
    assert house.causes(job_id) == [Cause.ABORTED]


def test_who_does_not_listen_is_killed_after_the_grace(build: Build, tmp_path: Path) -> None:
    house = build(config={"cancel_grace": 0.2})
    job_id = _holding(house, tmp_path, "stubborn")
    (worker,) = house.workers
    house.runtime.stop_signal.request(patience_s=0.0)
    assert _ended(house) == 75
    assert not lives(worker.pid)
    assert (house.state(job_id), house.causes(job_id)) == (JobState.PENDING, [Cause.ABORTED])


def test_a_second_ring_kills_at_once(house: House, tmp_path: Path) -> None:
    job_id = _holding(house, tmp_path, "stubborn")
    house.runtime.stop_signal.request()
    house.steps(3)
    begun = time.monotonic()
    house.runtime.stop_signal.request()
    assert _ended(house) == 75
    assert time.monotonic() - begun < 2
    job = house.job(job_id)
    assert (job.state, job.attempt) == (JobState.PENDING, 0)
    assert house.causes(job_id) == [Cause.ABORTED]


def test_a_second_ring_when_nothing_runs_aborts_nothing(house: House) -> None:
    house.ready()
    house.runtime.stop_signal.request()
    house.runtime.stop_signal.request()
    assert _ended(house) == 0


def test_a_second_ring_does_not_wait_for_a_store_somebody_holds(house: House, tmp_path: Path) -> None:
    job_id = _holding(house, tmp_path, "stubborn", max_retries=1)
    foreign = house.lock()
    house.runtime.stop_signal.request()
    house.runtime.stop_signal.request()
    house.steps(20)
    house.clock.advance(3)
    assert _ended(house, 3) == 75
    foreign.close()
    # Its outcome was not written: the registration stays, and the next supervisor decides by the marks.
    assert house.state(job_id) is JobState.RUNNING
    assert len(house.store.supervisors()) == 1


def test_a_stop_during_a_worker_s_boot_harms_nothing(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOT_GATE", str(tmp_path / "never"))
    house = build()
    house.until((tmp_path / "never.waiting").exists)
    house.runtime.stop_signal.request()
    assert _ended(house, 2) == 0


def test_a_worker_that_dies_during_a_stop_gives_its_jobs_back(house: House, tmp_path: Path) -> None:
    job_id = _holding(house, tmp_path, max_retries=1)
    house.runtime.stop_signal.request()
    house.steps(3)
    os.kill(house.workers[0].pid, signal.SIGKILL)
    assert _ended(house) == 0
    job = house.job(job_id)
    assert job.state is JobState.RETRYING
    assert house.causes(job_id) == [Cause.WORKER_DIED]


# ---------------------------------------------------------------- draining


def test_a_drain_ends_when_nothing_is_left(build: Build, tmp_path: Path) -> None:
    house = build(drain=True)
    ids = [house.enqueue("noop") for _ in range(10)]
    assert _ended(house) == 0
    assert all(house.state(job_id) is JobState.COMPLETED for job_id in ids)
    assert house.report is not None
    assert house.report.completed == 10
    assert _signed_off(house)


def test_a_drain_of_nothing_ends_at_once(build: Build) -> None:
    assert _ended(build(drain=True), 3) == 0


def test_a_drain_waits_for_retries_and_says_if_a_job_failed(build: Build, tmp_path: Path) -> None:
    house = build(drain=True)
    works = house.enqueue("fails_then_works", path=tmp_path / "a", failures=2)
    fails = house.enqueue("fails_then_works", {"max_retries": 1}, path=tmp_path / "b", failures=9)
    assert _ended(house) == 1
    assert house.state(works) is JobState.COMPLETED
    assert house.state(fails) is JobState.FAILED
    assert house.report is not None
    assert (house.report.completed, house.report.failed) == (1, 1)


def test_a_drain_does_not_wait_for_parked_and_later_jobs_and_lists_them(build: Build) -> None:
    house = build(drain=True, config={"queues": ["default", "held"]})
    house.store.set_paused("held", True)
    held = house.enqueue("noop", {"queue": "held"})
    parked = [house.enqueue("nobody_knows_this") for _ in range(3)]
    later = house.enqueue("noop", {"run_at_us": house.clock.now().wall_us + 3_600_000_000})
    elsewhere = house.enqueue("noop", {"queue": "other"})
    assert _ended(house) == 0
    assert all(house.job(job_id).blocked_reason for job_id in parked)
    assert house.state(later) is JobState.SCHEDULED
    assert house.state(elsewhere) is JobState.PENDING
    assert house.report is not None
    assert house.state(held) is JobState.PENDING
    (reason,) = house.report.parked.keys() - {"queue 'held' is paused"}
    assert "nobody_knows_this" in reason
    assert (house.report.parked["queue 'held' is paused"], house.report.parked[reason]) == (1, 3)
    assert house.report.scheduled == 1


def test_a_drain_lists_what_another_one_has_parked(build: Build) -> None:
    house = build(drain=True)
    house.enqueue("nobody_knows_this")
    assert _ended(house) == 0
    again = build(drain=True)
    assert _ended(again) == 0
    assert again.report is not None
    assert list(again.report.parked.values()) == [1]


def test_a_drain_is_stopped_like_any_other(build: Build, tmp_path: Path) -> None:
    house = build(drain=True)
    _holding(house, tmp_path)
    house.runtime.stop_signal.request(patience_s=0.0)
    assert _ended(house) == 75

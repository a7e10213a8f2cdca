"""A supervisor that cannot be sure of its lease kills its workers, writes nothing and starts over."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from mpdispatch.errors import StoreBusy
from mpdispatch.model import Cause, JobState
from mpdispatch.store.sqlite.supervisor_store import SQLiteSupervisorStore
from mpdispatch.supervisor import registration
from mpdispatch.supervisor.rescue import Rescuer
from tests.pool.probes import lives
from tests.supervisor.conftest import Build
from tests.supervisor.house import House
from tests.supervisor.peers import Peer, enqueued


def _holding(house: House, tmp_path: Path, name: str = "hold", **options: object) -> int:
    job_id = house.enqueue(name, options or None, started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    return job_id


# ---------------------------------------------------------------- the registration is gone


def test_nothing_is_written_once_the_registration_is_gone(house: House, tmp_path: Path) -> None:
    job_id = _holding(house, tmp_path)
    before, (worker,) = house.owner, house.workers
    house.unregister()
    (tmp_path / "gate").touch()
    house.until(lambda: house.store.supervisors(), what="a new registration")
    assert house.owner != before
    assert house.wiring.in_flight.stale_writes == 1
    # Nobody has taken its jobs over, so it does itself: by what lies in its old start journal.
    (job,) = house.ended(job_id)
    assert not lives(worker.pid)
    assert (job.state, job.starts) == (JobState.COMPLETED, 1)
    assert house.ended(house.enqueue("noop"))[0].state is JobState.COMPLETED


def test_a_lost_registration_is_noticed_by_the_heartbeat_of_an_idle_supervisor(house: House) -> None:
    house.ready()
    before = house.owner
    house.unregister()
    house.clock.advance(house.config.heartbeat_interval)
    house.until(lambda: house.store.supervisors())
    assert house.owner != before


def test_a_claim_is_not_made_once_the_registration_is_gone(house: House) -> None:
    (worker,) = house.ready()
    before = house.owner
    house.unregister()
    job_id = house.enqueue("noop")
    (job,) = house.ended(job_id)
    assert house.owner != before
    assert job.starts == 1
    assert not lives(worker.pid)


# ---------------------------------------------------------------- no heartbeat in time


def test_a_supervisor_that_cannot_ask_the_store_in_time_starts_over_and_decides_by_marks(
    build: Build, tmp_path: Path
) -> None:
    # The lease may be another's by now.
    house = build(config={"prefetch_window": 5.0})
    house.ended(house.enqueue("hold", started=tmp_path / "first", gate="/"))  # known to be short: it may queue
    started = house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    unstarted = [house.enqueue("hold", started=tmp_path / "never", gate="/") for _ in range(3)]
    house.until((tmp_path / "started").exists)
    house.until(lambda: len(house.workers[0].assigned) == 4)
    before, (worker,) = house.owner, house.workers
    with house.out_of_reach():
        house.until(lambda: house.owner != before)
    house.until(lambda: house.causes(started))
    assert not lives(worker.pid)
    assert house.causes(started) == [Cause.LEASE_LOST]
    (tmp_path / "gate").touch()
    for job in house.ended(*unstarted):
        assert (job.state, job.attempt, job.starts) == (JobState.COMPLETED, 1, 2)
    house.clock.advance(10)
    (job,) = house.ended(started)
    assert (job.state, job.attempt, job.starts) == (JobState.COMPLETED, 2, 2)
    assert [each.id for each in house.store.supervisors()] == [house.owner]


def test_a_job_that_may_never_start_twice_does_not_after_a_lost_lease(house: House, tmp_path: Path) -> None:
    job_id = _holding(house, tmp_path, max_retries=0)
    with house.out_of_reach():
        (job,) = house.ended(job_id)
    assert job.state is JobState.FAILED
    assert house.causes(job_id) == [Cause.LEASE_LOST]


def test_a_supervisor_that_was_away_too_long_asks_the_store_and_goes_on(house: House, tmp_path: Path) -> None:
    # Stopped or suspended with nobody else there: its registration is as it was.
    job_id = _holding(house, tmp_path, max_retries=0)
    before, (worker,) = house.owner, house.workers
    house.clock.advance(3600)
    house.steps(5)
    assert (house.owner, house.workers) == (before, [worker])
    (tmp_path / "gate").touch()
    (job,) = house.ended(job_id)
    assert (job.state, job.starts) == (JobState.COMPLETED, 1)
    assert house.wiring.in_flight.stale_writes == 0


def test_a_supervisor_that_was_away_too_long_and_was_taken_over_starts_over(
    house: House, tmp_path: Path
) -> None:
    job_id = _holding(house, tmp_path)
    before, (worker,) = house.owner, house.workers
    house.take_away(job_id)
    house.unregister()
    house.clock.advance(3600)
    house.until(lambda: house.store.supervisors() and house.owner != before)
    assert not lives(worker.pid)
    assert house.store.attempts(job_id) == []


def test_a_busy_store_is_asked_again_before_anything_ends(house: House, tmp_path: Path) -> None:
    job_id = _holding(house, tmp_path)
    before, (worker,) = house.owner, house.workers
    foreign = house.lock()
    house.clock.advance(house.config.stale_job_threshold * 0.91)  # not trusted any more, and not over yet
    house.step()
    foreign.close()
    house.clock.advance(0.1)
    house.steps(5)
    assert (house.owner, house.workers) == (before, [worker])
    (tmp_path / "gate").touch()
    assert house.ended(job_id)[0].starts == 1


def test_peers_that_were_away_as_long_are_let_say_that_they_live(
    build: Build, peer: Callable[..., Peer], tmp_path: Path
) -> None:
    (job_id,) = enqueued(tmp_path, 1)
    other = peer(lease_s=30)
    other.claim(1)
    house = build()
    house.ready()
    house.clock.advance(3600)  # both of them slept
    house.step()
    assert house.state(job_id) is JobState.RUNNING
    other.supervisor_store.renew(other.owner, 30_000_000)
    house.clock.advance(1.1)
    house.steps(5)
    assert house.state(job_id) is JobState.RUNNING
    assert len(house.store.supervisors()) == 2


def test_heartbeats_keep_the_lease(house: House, tmp_path: Path) -> None:
    job_id = _holding(house, tmp_path)
    before, (worker,) = house.owner, house.workers
    for _ in range(10):
        house.clock.advance(house.config.heartbeat_interval)
        house.steps(2)
    assert (house.owner, house.workers) == (before, [worker])
    (tmp_path / "gate").touch()
    (job,) = house.ended(job_id)
    assert (job.state, job.starts) == (JobState.COMPLETED, 1)


def test_trust_ends_before_the_lease_does(house: House, tmp_path: Path) -> None:
    # A peer takes over at the threshold: by then our workers must be dead.
    _holding(house, tmp_path)
    (worker,) = house.workers
    house.lock()
    house.clock.freeze()
    house.clock.advance(house.store.supervisors()[0].lease_left_us / 1e6 - 0.5)
    house.until(lambda: not lives(worker.pid))
    assert house.store.supervisors()[0].lease_left_us > 0


def test_a_take_over_of_our_own_that_had_to_wait_does_not_kill_our_new_workers(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = _holding(house, tmp_path)
    before = house.owner
    with monkeypatch.context() as patched:
        patched.setattr(Rescuer, "take_over", lambda *_, **__: False)
        with house.out_of_reach():
            house.until(lambda: house.owner != before)
        other = house.enqueue("hold", started=tmp_path / "again", gate=tmp_path / "gate")
        house.until((tmp_path / "again").exists)
        (worker,) = house.workers
    # Only now can the old registration be taken over, and what it left be swept.
    house.clock.advance(1)
    house.until(lambda: house.causes(job_id) == [Cause.LEASE_LOST])
    assert house.workers == [worker]
    assert lives(worker.pid)
    (tmp_path / "gate").touch()
    (job,) = house.ended(other)
    assert (job.state, job.starts) == (JobState.COMPLETED, 1)


def test_a_full_disk_while_joining_anew_is_survived(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = _holding(house, tmp_path, max_retries=1)
    before = house.owner

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(registration, "Journal", full)
        with house.out_of_reach():
            house.until(lambda: house.owner != before)
        house.steps(10)
        assert house.report is None
        assert house.runtime.pool.ready == []
    house.clock.advance(1)
    (tmp_path / "gate").touch()
    house.until(lambda: house.causes(job_id) == [Cause.LEASE_LOST])
    house.clock.advance(1)
    (job,) = house.ended(job_id)
    assert job.state is JobState.COMPLETED
    house.until(lambda: len(house.store.supervisors()) == 1)


def test_a_stop_is_obeyed_while_the_lease_is_lost_and_the_store_is_held(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = _holding(house, tmp_path)

    def busy(*_: object, **__: object) -> None:
        raise StoreBusy("jobs.db")

    monkeypatch.setattr(SQLiteSupervisorStore, "register", busy)
    with house.out_of_reach():
        house.until(lambda: house.workers == [])
        house.runtime.stop_signal.request()
        report = house.until(lambda: house.report, timeout_s=3)
    assert report.exit_code == 75
    # The job is left to a rescuer, who finds the registration and the marks.
    assert house.state(job_id) is JobState.RUNNING
    assert len(house.store.supervisors()) == 1


# ---------------------------------------------------------------- reconciling


def _beat(house: House) -> None:
    house.clock.advance(house.config.heartbeat_interval)
    house.steps(2)


def test_a_running_row_of_ours_that_we_do_not_hold_is_given_back(house: House, tmp_path: Path) -> None:
    # As after a claim that was committed, but whose answer never reached us.
    _holding(house, tmp_path)
    stray = house.enqueue("noop", {"queue": "unpolled"})
    assert house.claim_unseen("unpolled") == [stray]
    _beat(house)
    job = house.until_state(stray, JobState.PENDING)
    assert (job.attempt, job.starts) == (0, 1)
    assert house.causes(stray) == []


def test_a_running_job_that_was_taken_from_us_is_ended(house: House, tmp_path: Path) -> None:
    job_id = _holding(house, tmp_path)
    (worker,) = house.workers
    house.take_away(job_id)
    house.clock.advance(house.config.heartbeat_interval)
    house.until(lambda: not lives(worker.pid))
    house.until(lambda: house.wiring.in_flight.stale_writes == 1)
    assert house.store.attempts(job_id) == []


@pytest.mark.parametrize("where", ["backlog", "worker's buffer"])
def test_a_waiting_job_that_was_taken_from_us_is_never_started(
    build: Build, tmp_path: Path, where: str
) -> None:
    house = build(config={"prefetch_window": 5.0})
    house.ended(house.enqueue("hold", started=tmp_path / "first", gate="/"))
    running = house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    taken, kept = [house.enqueue("hold", started=tmp_path / name, gate="/") for name in ("taken", "kept")]
    house.until((tmp_path / "started").exists)
    (worker,) = house.workers
    house.until(lambda: len(worker.assigned) == 3)
    if where == "backlog":
        house.wiring.in_flight.put_back(worker.recall(), house.clock.now().boot_us)
    house.take_away(taken)
    _beat(house)
    (tmp_path / "gate").touch()
    jobs = house.ended(running, kept)
    assert jobs[0].starts == 1  # and nobody else suffered
    assert [job.state for job in jobs] == [JobState.COMPLETED] * 2
    assert not (tmp_path / "taken").exists()
    assert house.workers == [worker]

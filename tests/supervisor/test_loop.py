"""The loop itself: it waits when there is nothing to do, and never for a store somebody else holds."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from mpdispatch.errors import StoreFull
from mpdispatch.model import Cause, JobState
from mpdispatch.store import SQLiteStore
from mpdispatch.store.sqlite.file_care import SQLiteFileCare
from mpdispatch.store.sqlite.supervisor_store import SQLiteSupervisorStore
from mpdispatch.store.transfer import Outgoing
from mpdispatch.store.values import CommitResult
from tests.pool.probes import lives, no_descriptor_left, pid_in, until
from tests.supervisor.conftest import Build
from tests.supervisor.house import House

_ENQUEUE = (
    "INSERT INTO mpdispatch_jobs (name, queue, state, lane, priority, run_at_us, max_retries, created_at_us, payload)"
    " VALUES ('noop', 'default', 'pending', 1, 0, 0, 3, 0, '{}')"
)
"""As somebody does who does not knock."""


def _settle(house: House) -> None:
    """Step until the loop has nothing left to do at once."""
    house.until(lambda: house.waits[-1] > 0.01, what="a tick that wants to wait")


# ---------------------------------------------------------------- it does not spin


def test_an_idle_loop_waits(house: House) -> None:
    house.ready()
    _settle(house)
    house.clock.advance(0.5)
    house.steps(3)
    assert house.waits[-1] > 0.01


@pytest.fixture
def turns(house: House, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The slots of every commit the store is asked for."""
    asked: list[int] = []
    real = SQLiteSupervisorStore.commit

    def spied(supervisor_store: SQLiteSupervisorStore, *args: Any, **kwargs: Any) -> CommitResult:
        asked.append(0 if kwargs["claim"] is None else kwargs["claim"].slots)
        return real(supervisor_store, *args, **kwargs)

    monkeypatch.setattr(SQLiteSupervisorStore, "commit", spied)
    return asked


def poll(house: House) -> None:
    house.clock.advance(house.config.poll_interval * 1.1)
    house.steps(2)


def test_a_poll_of_a_store_nobody_has_written_to_asks_for_no_turn(house: House, turns: list[int]) -> None:
    house.ready()
    poll(house)
    poll(house)
    turns.clear()
    for _ in range(5):
        poll(house)
    assert turns == []


def test_a_poll_finds_what_was_enqueued_without_a_knock(house: House, turns: list[int]) -> None:
    house.ready()
    poll(house)
    poll(house)
    turns.clear()
    connection = house.lock()
    connection.execute(_ENQUEUE)
    connection.execute("COMMIT")
    poll(house)
    assert turns
    house.ended(1)


def test_a_change_that_a_look_at_peers_has_noticed_is_claimed_at_once(build: Build) -> None:
    house = build(config={"poll_interval": 60.0})
    house.ready()
    _settle(house)
    house.clock.advance(1.1)  # peers are looked at each second
    house.steps(2)
    connection = house.lock()
    connection.execute(_ENQUEUE)
    connection.execute("COMMIT")
    house.clock.advance(1.1)
    house.ended(1)


def test_a_poll_that_finds_nothing_new_does_not_put_off_what_is_due_before_the_next(house: House) -> None:
    house.ready()
    house.clock.freeze()
    now = house.clock.now()
    house.enqueue("noop", {"run_at_us": now.wall_us + 150_000})  # polls are 0.2 s apart
    claimer = house.wiring.claimer
    house.until(lambda: claimer.next_us == now.boot_us + 150_000, what="a claim that knows of it")
    claimer.put_off(now)
    assert claimer.next_us == now.boot_us + 150_000
    house.clock.advance(0.15)
    claimer.put_off(house.clock.now())  # and is not in the past, which would be asked for again at once
    assert claimer.next_us > house.clock.now().boot_us


def test_a_poll_finds_what_has_become_due_by_a_wall_clock_that_was_set(house: House, turns: list[int]) -> None:
    later = house.clock.now().wall_us + 3600 * 1_000_000
    job_id = house.enqueue("noop", {"run_at_us": later})
    house.ready()
    poll(house)
    poll(house)
    turns.clear()
    house.clock.set_wall(3601)
    poll(house)
    assert turns
    house.ended(job_id)


def test_a_loop_whose_workers_are_all_busy_waits_past_the_next_poll(house: House, tmp_path: Path) -> None:
    house.enqueue("hold", started=tmp_path / "started")
    house.until((tmp_path / "started").exists)
    _settle(house)
    # The time to claim again has come, but there is no room for another job.
    house.clock.advance(house.config.poll_interval * 1.5)
    house.steps(3)
    assert house.waits[-1] > 0.01


def test_a_drain_waits_for_a_job_that_runs_long(build: Build, tmp_path: Path) -> None:
    house = build(drain=True, config={"concurrency": 2})
    later = house.enqueue("boom", {"max_retries": 1}, how="retry")
    house.until_state(later, JobState.RETRYING)
    # It has looked once what is left, and will look again in a moment; meanwhile a long job begins.
    house.steps(5)
    house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    house.until(lambda: house.state(later) is JobState.FAILED)
    house.clock.advance(0.15)
    house.steps(3)
    assert house.waits[-1] > 0.001
    (tmp_path / "gate").touch()
    house.until(lambda: house.report)


@pytest.mark.parametrize("is_heartbeat_due", [False, True])
def test_a_loop_waits_for_a_store_somebody_else_holds(house: House, is_heartbeat_due: bool) -> None:
    house.ready()
    _settle(house)
    foreign = house.lock()
    if is_heartbeat_due:
        house.clock.advance(house.config.heartbeat_interval)
    house.clock.advance(house.config.poll_interval)
    house.waits.clear()
    until_s = time.monotonic() + 0.3
    while time.monotonic() < until_s:
        wait_s = house.supervisor.tick()
        house.waits.append(wait_s)
        house.supervisor.hear(house.runtime.selector.select(wait_s))
    assert len(house.waits) < 60
    foreign.close()


def test_a_loop_waits_while_the_disk_is_full(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.ready()
    _settle(house)

    def full(*_: object, **__: object) -> None:
        raise StoreFull("jobs.db")

    monkeypatch.setattr(SQLiteSupervisorStore, "renew", full)
    house.clock.advance(house.config.heartbeat_interval)
    house.steps(3)
    assert house.waits[-1] > 0.01


# ---------------------------------------------------------------- a busy store


def test_outcomes_wait_in_memory_for_a_busy_store_and_are_written_when_it_is_free(
    house: House, tmp_path: Path
) -> None:
    job_id = house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    foreign = house.lock()
    (tmp_path / "gate").touch()
    house.until(lambda: house.wiring.in_flight.pending)
    house.steps(20)
    assert house.state(job_id) is JobState.RUNNING
    assert len(house.wiring.in_flight.pending) == 1
    foreign.close()
    (job,) = house.ended(job_id)
    assert job.state is JobState.COMPLETED
    assert house.causes(job_id) == [Cause.COMPLETED]
    assert house.wiring.in_flight.pending == []


def test_a_timeout_is_enforced_while_somebody_else_holds_the_store(house: House, tmp_path: Path) -> None:
    options = {"max_retries": 0, "timeout_us": 150_000}
    job_id = house.enqueue("stubborn", options, started=tmp_path / "started")
    house.until((tmp_path / "started").exists)
    worker = house.workers[0]
    foreign = house.lock()
    begun = time.monotonic()
    house.until(lambda: worker not in house.workers, what="the end of the worker")
    assert time.monotonic() - begun < 0.15 + house.config.kill_grace + 0.5
    assert house.state(job_id) is JobState.RUNNING
    foreign.close()
    (job,) = house.ended(job_id)
    assert job.state is JobState.FAILED
    assert house.causes(job_id) == [Cause.TIMEOUT]
    assert house.attempt(job_id).signal == "SIGKILL"


def test_no_tick_takes_long_while_somebody_else_holds_the_store(house: House) -> None:
    house.ready()
    foreign = house.lock()
    longest = 0.0
    for _ in range(20):
        house.clock.advance(0.3)
        begun = time.monotonic()
        house.step()
        longest = max(longest, time.monotonic() - begun)
    foreign.close()
    assert longest < 0.15


def test_a_store_that_vanished_ends_the_supervisor_with_74(house: House) -> None:
    house.ready()
    (house.folder / "jobs.db").rename(house.folder / "elsewhere.db")
    house.clock.advance(house.config.heartbeat_interval)
    report = house.until(lambda: house.report)
    assert report.exit_code == 74
    assert house.workers == []


def test_a_store_that_was_moved_meanwhile_ends_the_supervisor(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """It was stopped, and taken for dead: the move has deleted its registration."""
    house.ready()
    store = SQLiteStore(house.folder / "jobs.db")
    owners = [each.id for each in store.supervisors()]
    store.transfer.freeze(Outgoing(move="m", to="elsewhere.db", is_done=True), owners)
    store.close()
    house.clock.advance(house.config.heartbeat_interval)
    report = house.until(lambda: house.report)
    assert report.exit_code == 69
    assert house.workers == []
    assert "was moved to elsewhere.db; use that store" in caplog.text


# ---------------------------------------------------------------- timeouts


def test_a_timeout_interrupts_the_handler_and_the_worker_lives_on(house: House, tmp_path: Path) -> None:
    (worker,) = house.ready()
    options = {"max_retries": 0, "timeout_us": 100_000}
    (job,) = house.ended(house.enqueue("hold", options, started=tmp_path / "started"))
    assert job.state is JobState.FAILED
    assert house.attempt(job.id).cause is Cause.TIMEOUT
    assert job.last_error is not None
    assert "0.1 s" in job.last_error.message
    assert house.workers == [worker]


def test_a_job_that_was_in_time_is_not_timed_out_by_a_late_supervisor(house: House, tmp_path: Path) -> None:
    job_id = house.enqueue(
        "hold",
        {"timeout_us": 5_000_000, "max_retries": 0},
        started=tmp_path / "started",
        gate=tmp_path / "gate",
    )
    house.until((tmp_path / "started").exists)
    (worker,) = house.workers
    (tmp_path / "gate").touch()
    until(worker.has_unread)
    # The supervisor was stopped or slow: when it looks, the timeout is long over, and the answer lies there.
    house.clock.advance(6)
    (job,) = house.ended(job_id)
    assert job.state is JobState.COMPLETED


def test_a_stopped_worker_is_timed_out(house: House, tmp_path: Path) -> None:
    options = {"max_retries": 0, "timeout_us": 100_000}
    job_id = house.enqueue("hold", options, started=tmp_path / "started")
    house.until((tmp_path / "started").exists)
    os.kill(house.workers[0].pid, signal.SIGSTOP)
    (job,) = house.ended(job_id)
    assert house.causes(job.id) == [Cause.TIMEOUT]


def test_a_job_is_timed_out_by_a_supervisor_without_a_descriptor_left(house: House, tmp_path: Path) -> None:
    job_id = house.enqueue("stubborn", {"timeout_us": 100_000, "max_retries": 0}, started=tmp_path / "started")
    house.until((tmp_path / "started").exists)
    pid = pid_in(tmp_path / "started")
    with no_descriptor_left():
        house.clock.advance(8)
        house.steps(5)
        house.clock.advance(8)
        house.steps(5)
    house.until(lambda: not lives(pid))
    house.until_state(job_id, JobState.FAILED)
    assert house.causes(job_id) == [Cause.TIMEOUT]


def test_a_worker_that_does_not_begin_its_job_is_replaced_and_the_job_unspent(house: House) -> None:
    (worker,) = house.ready()
    os.kill(worker.pid, signal.SIGSTOP)
    job_id = house.enqueue("noop", {"max_retries": 0})
    house.until(lambda: worker.assigned)
    house.steps(3)
    house.clock.advance(5.1)
    (job,) = house.ended(job_id)
    assert job.state is JobState.COMPLETED
    assert (job.attempt, job.starts) == (1, 1)
    assert worker not in house.workers


# ---------------------------------------------------------------- what must reach the disk


def test_workers_that_have_done_their_last_job_and_do_not_end_are_killed(house: House) -> None:
    left = []
    for _ in range(2):
        (worker,) = house.ready()
        os.kill(worker.pid, signal.SIGSTOP)
        worker.retire()
        left.append(worker)
    job_id = house.enqueue("noop")
    house.steps(20)
    assert house.workers == left, "there is no room for another"
    house.clock.advance(5)  # the second has needed a while to come up
    house.steps(20)
    assert house.workers == left, "they may have something to send"
    house.clock.advance(6)
    house.until(lambda: not any(lives(worker.pid) for worker in left))
    assert house.ended(job_id)[0].state is JobState.COMPLETED


def test_a_stopped_worker_that_does_not_let_go_of_what_was_taken_back_is_replaced(house: House) -> None:
    (worker,) = house.ready()
    os.kill(worker.pid, signal.SIGSTOP)
    job_id = house.enqueue("noop")
    house.until(lambda: worker.assigned)
    house.wiring.in_flight.put_back(worker.recall(), house.clock.now().boot_us)
    assert worker.sender.is_stale
    house.steps(3)
    house.clock.advance(4.0)
    house.steps(3)
    assert worker in house.workers
    house.clock.advance(1.5)
    house.until(lambda: not lives(worker.pid))
    assert house.ended(job_id)[0].worker_pid not in (None, worker.pid)


def test_a_worker_is_given_its_time_to_let_go_anew_each_time(house: House) -> None:
    (worker,) = house.ready()
    for _ in range(3):
        os.kill(worker.pid, signal.SIGSTOP)
        job_id = house.enqueue("noop")
        house.until(lambda: worker.assigned)
        house.wiring.in_flight.put_back(worker.recall(), house.clock.now().boot_us)
        house.steps(2)
        house.clock.advance(3.0)
        house.steps(2)
        os.kill(worker.pid, signal.SIGCONT)
        assert house.ended(job_id)[0].worker_pid == worker.pid


def test_a_claim_is_flushed_in_time_whatever_turns_come_before(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = build(config={"concurrency": 2, "poll_interval": 60.0})
    flushed: list[int] = []
    monkeypatch.setattr(SQLiteFileCare, "sync", lambda care: flushed.append(house.clock.now().boot_us))
    house.ready()
    _settle(house)
    house.clock.freeze()
    now = house.clock.now()
    gate = tmp_path / "gate"
    house.enqueue("hold", started=tmp_path / "first", gate=gate)
    house.until((tmp_path / "first").exists)
    house.clock.advance(0.002)
    house.enqueue("noop", {"run_at_us": now.wall_us + 3_600_000_000})  # a commit that finds nothing
    house.steps(3)
    house.enqueue("hold", started=tmp_path / "second", gate=gate)  # and one that claims more
    house.until((tmp_path / "second").exists)
    assert flushed == []
    house.clock.advance(0.002)
    house.steps(2)
    house.clock.advance(0.05)
    house.steps(2)
    assert flushed == [now.boot_us + 4_000], "once, 4 ms after the first of them"
    gate.touch()

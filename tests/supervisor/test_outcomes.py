"""Whatever becomes of a start, the store says so: every outcome and the state it leads to, with real workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from mpdispatch.model import Cause, JobState
from tests.pool.probes import lives, pid_in, until
from tests.supervisor.conftest import Build
from tests.supervisor.house import House

ONCE = {"max_retries": 0}


def test_a_result_is_kept(house: House) -> None:
    (job,) = house.ended(house.enqueue("echo", value={"a": [1, None, "ü"]}))
    assert job.state is JobState.COMPLETED
    assert job.result == {"a": [1, None, "ü"]}
    assert (job.attempt, job.starts) == (1, 1)
    attempt = house.attempt(job.id)
    assert attempt.cause is Cause.COMPLETED
    assert attempt.worker_pid == house.workers[0].pid
    assert house.wiring.in_flight.completed == 1


def test_a_result_of_20_mb_is_kept(build: Build) -> None:
    house = build(config={"max_result_bytes": 64 << 20})
    (job,) = house.ended(house.enqueue("large", size=20_000_000))
    assert job.state is JobState.COMPLETED
    assert len(job.result) == 20_000_000


def test_a_result_past_the_limit_fails_without_retry(house: House) -> None:
    (job,) = house.ended(house.enqueue("large", size=2_000_000))
    assert job.state is JobState.FAILED
    assert job.last_error is not None
    assert "ResultError" in job.last_error.type


ENDS_IN_FAILURE = {
    "plain": ("boom", {"how": "plain"}, Cause.ERROR, "ValueError"),
    "unprintable": ("boom", {"how": "unprintable"}, Cause.ERROR, "Unprintable"),
    "sys.exit": ("boom", {"how": "sys.exit"}, Cause.ERROR, "SystemExit"),
    "retry asked": ("boom", {"how": "retry"}, Cause.RETRY, "Retry"),
    "no json": ("no_json", {}, Cause.ERROR, "ResultError"),
    "killed": ("mischief", {"action": "sigkill"}, Cause.WORKER_DIED, "WorkerDied"),
    "segfault": ("mischief", {"action": "segfault"}, Cause.WORKER_DIED, "WorkerDied"),
    "exit 0": ("mischief", {"action": "exit 0"}, Cause.WORKER_DIED, "WorkerDied"),
    "junk": ("mischief", {"action": "junk", "lasts": True}, Cause.WORKER_DIED, "WorkerChannelLost"),
    "close fds": ("mischief", {"action": "close fds"}, Cause.WORKER_DIED, "WorkerChannelLost"),
}


@pytest.mark.parametrize("case", ENDS_IN_FAILURE)
def test_a_start_that_fails_and_may_not_be_repeated_is_a_dead_letter(house: House, case: str) -> None:
    name, payload, cause, error_type = ENDS_IN_FAILURE[case]
    (job,) = house.ended(house.enqueue(name, ONCE, **payload))
    assert job.state is JobState.FAILED
    assert house.causes(job.id) == [cause]
    assert job.last_error is not None
    assert error_type in job.last_error.type
    assert house.store.dead_letter_count() == 1
    assert house.wiring.in_flight.failed == 1
    # And the next job runs, on this worker or another.
    assert house.ended(house.enqueue("noop"))[0].state is JobState.COMPLETED


def test_a_failing_job_is_retried_until_it_works(house: House, tmp_path: Path) -> None:
    (job,) = house.ended(house.enqueue("fails_then_works", path=tmp_path / "starts", failures=2))
    assert job.state is JobState.COMPLETED
    assert (job.result, job.attempt, job.starts) == (3, 3, 3)
    assert house.causes(job.id) == [Cause.ERROR, Cause.ERROR, Cause.COMPLETED]


def test_a_failing_job_is_retried_until_its_budget_is_spent(house: House, tmp_path: Path) -> None:
    job_id = house.enqueue("fails_then_works", {"max_retries": 2}, path=tmp_path / "starts", failures=99)
    (job,) = house.ended(job_id)
    assert job.state is JobState.FAILED
    assert house.causes(job_id) == [Cause.ERROR] * 3
    assert len((tmp_path / "starts").read_text().split()) == 3


def test_a_job_that_kills_its_worker_each_time_ends_as_one_dead_letter(house: House) -> None:
    job_id = house.enqueue("mischief", {"max_retries": 2}, action="sigkill")
    house.until(lambda: house.state(job_id) is not JobState.PENDING)
    until_failed = 0
    while house.state(job_id) is not JobState.FAILED:
        house.clock.advance(1)
        house.steps(20)
        until_failed += 1
        assert until_failed < 500
    assert house.causes(job_id) == [Cause.WORKER_DIED] * 3
    assert house.store.dead_letter_count() == 1


@pytest.mark.parametrize("how", ["retry", "retry as usual"])
def test_a_retry_asked_for_waits_as_long_as_it_asked(house: House, how: str) -> None:
    job_id = house.enqueue("boom", {"max_retries": 1}, how=how)
    job = house.until_state(job_id, JobState.RETRYING)
    assert job.attempt == 1
    delay_s = (job.run_at - house.store.attempts(job_id)[0].finished_at).total_seconds()
    assert delay_s == pytest.approx(0.2 if how == "retry" else 0.05, abs=0.001)
    (job,) = house.ended(job_id)
    assert house.causes(job_id) == [Cause.RETRY, Cause.RETRY]


def test_a_snooze_spends_no_attempt(house: House) -> None:
    job_id = house.enqueue("boom", ONCE, how="snooze")
    job = house.until_state(job_id, JobState.SCHEDULED)
    assert (job.attempt, job.starts) == (0, 1)
    house.until(lambda: house.job(job_id).starts == 2)
    assert house.causes(job_id)[0] is Cause.SNOOZE


def test_a_job_that_cancels_itself_is_cancelled(house: House) -> None:
    (job,) = house.ended(house.enqueue("boom", how="cancel"))
    assert job.state is JobState.CANCELLED
    assert house.causes(job.id) == [Cause.CANCELLED]


def test_what_a_killed_job_left_running_is_dead_before_its_outcome_is_known(
    house: House, tmp_path: Path
) -> None:
    kinds = ["child", "daemon", "cleared", "marked"]
    job_id = house.enqueue("leave", ONCE, folder=tmp_path, kinds=kinds, gate=tmp_path / "never")
    pids = house.until(lambda: [pid_in(tmp_path / k) for k in kinds] if (tmp_path / "marked").exists() else [])
    os.kill(house.workers[0].pid, signal.SIGKILL)
    house.ended(job_id)
    for pid in pids:
        until(lambda pid=pid: not lives(pid), timeout_s=1)


def test_progress_reaches_the_store_while_the_job_runs(house: House, tmp_path: Path) -> None:
    job_id = house.enqueue("report", gate=tmp_path / "gate")
    progress = house.until(lambda: house.job(job_id).progress)
    assert progress == {"done": 1, "total": 2, "message": "half"}
    (tmp_path / "gate").touch()
    house.ended(job_id)


def test_progress_does_not_wait_for_what_is_claimed_and_has_no_worker_yet(house: House, tmp_path: Path) -> None:
    house.ended(*[house.enqueue("uneven", seconds=0.002) for _ in range(20)])
    house.clock.freeze()  # they would be given back after a second
    job_id = house.enqueue("report", gate=tmp_path / "gate")
    behind = [house.enqueue("uneven", seconds=0.002) for _ in range(20)]
    house.until(lambda: house.wiring.in_flight.progress or house.job(job_id).progress)
    house.clock.advance(0.02)
    house.until(lambda: house.job(job_id).progress)
    assert house.wiring.in_flight.backlog
    (tmp_path / "gate").touch()
    house.ended(job_id, *behind)


def test_a_job_no_handler_is_for_is_parked_and_not_looked_at_again(house: House) -> None:
    job_id = house.enqueue("nobody_knows_this")
    house.until(lambda: house.job(job_id).blocked_reason)
    assert house.state(job_id) is JobState.PENDING
    assert house.job(job_id).starts == 0
    assert house.ended(house.enqueue("noop"))[0].state is JobState.COMPLETED


def test_jobs_start_in_order_of_priority_then_time(house: House, tmp_path: Path) -> None:
    gate = house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until(lambda: (tmp_path / "started").exists())
    ids = [house.enqueue("noop", {"priority": priority}) for priority in (0, 5, 0, 10, 5)]
    (tmp_path / "gate").touch()
    jobs = house.ended(gate, *ids)[1:]
    in_order = [job.id for job in sorted(jobs, key=lambda job: (job.started_at, job.id))]
    assert in_order == [ids[3], ids[1], ids[4], ids[0], ids[2]]

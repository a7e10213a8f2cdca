"""Two hosts with a queue on a third one: what people see and do across them, and what a pulled cable means."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.hosts.network import pid_on_host
from tests.hosts.yard import THRESHOLD_S, Yard
from tests.whole.harness import children, is_alive, state_of, until

SECOND_NS = 1_000_000_000


def test_a_job_on_another_host_is_seen_heard_and_cancelled(yard: Yard) -> None:
    here, there = yard.host("here"), yard.host("there")
    supervisor = yard.supervising(there)
    job_id = yard.app.until_file.enqueue(name="never").id
    run = yard.started(job_id)
    until(lambda: yard.json(here, "workers")[0]["jobs"] == 1, "the job is held")
    (seen,) = yard.json(here, "workers")
    assert (seen["host"], seen["pid"], seen["state"]) == ("there", pid_on_host(supervisor.pid), "alive")
    assert seen["workers"] == []
    (where,) = yard.json(there, "workers")
    assert [each["job_id"] for each in where["workers"] if each["pid"] == run.pid] == [job_id]
    told = yard.cli(here, "explain", str(job_id))
    assert f"supervisor {seen['id']} (pid {seen['pid']} on there) claimed it" in told
    near = yard.cli(there, "explain", str(job_id))
    assert f"worker {run.pid} of supervisor {seen['id']}" in near
    # By the clock of its own host, which has run for a day.
    assert 0 <= float(near.rpartition(", for ")[2].split()[0]) < 60, near
    assert "waiting for never on there" in until(lambda: yard.cli(here, "logs", str(job_id)), "its log")
    began_s = time.monotonic()
    yard.cli(here, "cancel", str(job_id))
    until(lambda: yard.engine.get_job(job_id).state == "cancelled", "the job is cancelled")
    assert time.monotonic() - began_s < 5
    assert yard.completed(yard.app.nap.enqueue().id).result == "there"


def test_a_host_that_is_cut_off_ends_its_jobs_before_another_one_takes_them(yard: Yard) -> None:
    east, west = yard.host("east"), yard.host("west")
    cut_off = yard.supervising(east)
    ids = [yard.app.until_file.enqueue(name="go").id for _ in range(2)]
    pids = [yard.started(each).pid for each in ids]
    workers = [each for each in children(cut_off.pid) if pid_on_host(each) in pids]
    os.kill(workers[0], signal.SIGSTOP)
    yard.supervising(west)
    east.cut()
    cut_ns = time.monotonic_ns()
    until(lambda: not any(map(is_alive, workers)), "all that ran there has ended", every=0.001)
    ended_ns = time.monotonic_ns()
    assert ended_ns - cut_ns < (THRESHOLD_S + 1) * SECOND_NS
    for each in ids:
        second = yard.started(each, 2)
        assert second.host == "west"
        assert second.first_ns > ended_ns
        assert second.first_ns - cut_ns > (THRESHOLD_S - 1) * SECOND_NS, "the lease was not over yet"
    (yard.folder / "go").touch()
    assert [yard.completed(each).result for each in ids] == ["west", "west"]
    yard.judge(ids)
    east.mend()
    until(lambda: {each.host for each in yard.peers()} == {"east", "west"}, "the host joins again", within=30)
    assert is_alive(cut_off.pid)
    yard.until(
        lambda: yard.completed(yard.app.nap.enqueue(s=0.05).id).result == "east", "the host runs jobs again"
    )


@pytest.mark.parametrize("server", ["postgres"], indirect=True)
def test_what_a_stopped_supervisor_ran_is_recorded_once(yard: Yard) -> None:
    """It cannot end its workers: this is the one case in which a job may run on two hosts for a while."""
    east, west = yard.host("east"), yard.host("west")
    stopped = yard.supervising(east)
    job_id = yard.app.until_file.enqueue(name="go").id
    yard.started(job_id)
    yard.supervising(west)
    stopped.kill(signal.SIGSTOP)
    stopped_ns = time.monotonic_ns()
    second = yard.started(job_id, 2, within=4 * THRESHOLD_S + 10)
    assert second.host == "west"
    assert second.first_ns - stopped_ns > (THRESHOLD_S - 1) * SECOND_NS, "the lease was not over yet"
    (yard.folder / "go").touch()
    assert yard.completed(job_id).result == "west"
    until(lambda: yard.runs_of(job_id)[0].has_ended, "the first run has ended as well")
    stopped.kill(signal.SIGCONT)
    until(lambda: {each.host for each in yard.peers()} == {"east", "west"}, "it joins again", within=30)
    job = yard.engine.get_job(job_id)
    assert (str(job.state), job.result) == ("completed", "west")
    yard.judge_history(job_id, job)
    yard.until(lambda: yard.completed(yard.app.nap.enqueue(s=0.05).id).result == "east", "it runs jobs again")


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
def test_a_host_that_is_switched_off_loses_its_jobs_to_another_one(yard: Yard) -> None:
    east, west = yard.host("east"), yard.host("west")
    yard.supervising(east)
    job_id = yard.app.until_file.enqueue(name="go").id
    yard.started(job_id)
    yard.supervising(west)
    east.power_off()
    assert yard.started(job_id, 2, within=4 * THRESHOLD_S + 10).host == "west"
    (yard.folder / "go").touch()
    assert yard.completed(job_id).result == "west"
    yard.judge([job_id])


@pytest.mark.parametrize("server", ["postgres"], indirect=True)
def test_containers_of_one_kernel_wait_for_the_lease_too(yard: Yard) -> None:
    """Their boot is the same, but no process of the other is to be seen: only the lease can tell."""
    east = yard.host("east")
    yard.supervising(east)
    job_id = yard.app.until_file.enqueue(name="go").id
    yard.started(job_id)
    west = yard.host("west", like=east)
    yard.supervising(west)
    time.sleep(THRESHOLD_S + 1)
    assert len(yard.runs_of(job_id)) == 1, "it was taken from a supervisor that lives"
    east.power_off()
    assert yard.started(job_id, 2, within=4 * THRESHOLD_S + 10).host == "west"
    (yard.folder / "go").touch()
    yard.completed(job_id)
    yard.judge([job_id])


@pytest.mark.parametrize("server", ["postgres"], indirect=True)
def test_a_host_that_stops_within_a_transaction_holds_up_the_others_for_seconds_only(yard: Yard) -> None:
    """It has the lock of all writers; the server ends a transaction that its client leaves alone for 5 s."""
    west = yard.host("west")
    yard.supervising(west, stale_job_threshold=20)
    running = yard.app.until_file.enqueue(name="go").id
    yard.started(running)
    stopped = yard.supervise(yard.host("east"), stale_job_threshold=20, failpoints="renew.before_commit:stop@3")
    yard.until(lambda: state_of(stopped.pid) == "T", "it stops within its third renewal")
    stopped_s = time.monotonic()
    assert yard.completed(yard.app.nap.enqueue().id).result == "west"
    assert time.monotonic() - stopped_s < 15
    (yard.folder / "go").touch()
    assert yard.completed(running).starts == 1, "it lost its lease meanwhile"

"""Processes that jobs leave running, with `child_policy="leave"`: who outlives what."""

from __future__ import annotations

import os
import signal

from mpdispatch.clock import boot_us
from mpdispatch.host.processes import process_start, start_at
from tests.whole.harness import Place, is_alive, state_of, until


def test_a_child_that_may_stay_outlives_its_job_its_worker_and_the_supervisor(place: Place) -> None:
    supervisor = place.supervise("-c", "1", child_policy="leave", max_jobs_per_worker=3, heartbeat_interval=0.2)
    # The very first job: its worker gives way to a fork of the zygote soon after.
    left = place.complete(place.app.leave_child.enqueue().id)
    children = [left.result]
    for number in range(7):
        job = place.app.leave_child.enqueue(own_session=number % 2 == 0)
        children.append(place.complete(job.id).result)
    until(lambda: not is_alive(left.worker_pid), "the first worker is replaced")
    until(lambda: start_at(boot_us()) > (process_start(children[-1]) or 0), "another tick", every=0.001)
    crashed = place.ended(place.app.kill_own_worker.enqueue().id, "failed")
    until(lambda: not is_alive(crashed.worker_pid or 0), "the worker that crashed is gone")
    place.complete(place.app.quick.enqueue().id)
    beat = place.json("workers")[0]["heartbeat_at"]
    until(lambda: place.json("workers")[0]["heartbeat_at"] > beat, "a heartbeat, which reaps what has ended")
    assert all(map(is_alive, children))
    supervisor.kill(signal.SIGTERM)
    assert supervisor.ended() == 0
    assert all(map(is_alive, children))


def test_a_child_that_has_ended_is_reaped_though_it_might_have_stayed(place: Place) -> None:
    place.supervise("-c", "1", child_policy="leave", max_jobs_per_worker=1, heartbeat_interval=0.2)
    child = place.complete(place.app.leave_child.enqueue().id).result
    worker = place.complete(place.app.quick.enqueue().id).worker_pid
    until(lambda: not is_alive(worker), "its worker is gone")
    os.kill(child, signal.SIGKILL)
    until(lambda: state_of(child) == "", "it is gone, and no zombie")


def test_who_kills_a_worker_for_its_job_kills_what_that_job_has_started_and_nothing_older(place: Place) -> None:
    place.supervising("-c", "1", child_policy="leave")
    older = place.complete(place.app.leave_child.enqueue().id).result
    # The kernel tells starts apart by its clock's tick, of 10 ms.
    until(lambda: start_at(boot_us()) > (process_start(older) or 0), "another tick", every=0.001)
    job_id = place.app.stay_with_child.options(timeout=1, max_retries=0).enqueue().id
    place.ended(job_id, "failed")
    own = int((place.folder / "child").read_text())
    until(lambda: not is_alive(own), "what it had started is ended")
    assert is_alive(older)

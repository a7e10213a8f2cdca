"""The pool on a cluster: the same outcomes as of worker processes, and what becomes of jobs whose worker dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import distributed
import msgspec
import pytest

from mpdispatch.model import Cancelled, Completed, TimedOut, WorkerDied
from mpdispatch.pool import frames
from mpdispatch.pool.assigned import Assignment, StopReason
from mpdispatch.pool.dask import messages, remote
from mpdispatch.pool.events import Gone, Progressed, Returned, Settled
from mpdispatch.pool.job_frames import encode_jobs
from mpdispatch.pool.process import CONTROL_CANCEL, CONTROL_TIMEOUT
from tests.dask.cluster import THREADS, Cluster, cluster
from tests.dask.rig import DaskRig
from tests.pool.app import wait_for
from tests.pool.probes import lives, pid_in, until
from tests.pool.rig import Rig

ALIKE: list[tuple[str, dict[str, Any]]] = [
    ("echo", {"value": {"a": [1, 2.5, None, "ü"]}}),
    *(("boom", {"how": how}) for how in ("plain", "unprintable", "sys.exit", "retry", "snooze", "cancel")),
    ("no_json", {}),
    ("large", {"size": 3_000_000}),
    ("echo", {"valeu": 1}),
    ("nobody", {}),
]


def told(settled: Settled) -> tuple[Any, ...]:
    """What is stored of an outcome, but for times and processes."""
    outcome = settled.outcome
    error = getattr(outcome, "error", None)
    return (
        type(outcome),
        getattr(outcome, "result", None),
        error and (error.type, error.message),
        getattr(outcome, "delay_us", None),
        getattr(outcome, "is_retryable", None),
    )


def test_outcomes_are_those_of_worker_processes(rig: DaskRig, tmp_path: Path) -> None:
    local = Rig(tmp_path / "local")
    try:
        local.open()
        found = []
        for each in (local, rig):
            worker = each.ready()
            found.append([told(each.settled(each.give(worker, name, **payload))) for name, payload in ALIKE])
            expired = msgspec.structs.replace(each.job("noop"), expires_at_us=1)
            each.give_together(worker, expired)
            found[-1].append(told(each.settled(expired)))
        assert found[0] == found[1]
        assert {kind for kind, *_ in found[1]} >= {Completed, Cancelled}
    finally:
        local.close()


def test_progress_comes_before_the_outcome(rig: DaskRig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = rig.give(rig.ready(), "report", gate=gate)
    progressed = rig.wait_for(Progressed)
    assert (progressed.job_id, progressed.starts) == (job.id, 1)
    assert msgspec.json.decode(progressed.data) == {"done": 1, "total": 2, "message": "half"}
    gate.touch()
    assert isinstance(rig.settled(job).outcome, Completed)


def test_each_worker_of_the_cluster_is_one_of_ours_and_no_more(rig: DaskRig, tmp_path: Path) -> None:
    rig.count_workers(2)
    workers = [rig.ready(), rig.ready()]
    with pytest.raises(OSError, match="no free worker"):
        rig.pool.spawn()
    gate = tmp_path / "gate"
    jobs = [rig.give(worker, "hold", started=tmp_path / "started", gate=gate) for worker in workers]
    rig.until(lambda: (tmp_path / "started").exists() and len((tmp_path / "started").read_text().split()) == 2)
    gate.touch()
    pids = {msgspec.json.decode(rig.settled(job).outcome.result) for job in jobs}  # type: ignore[union-attr]
    assert pids == {worker.pid for worker in workers}


def begun(rig: DaskRig, worker: Any) -> Assignment:
    """The job of this worker, once it has said that it began it."""
    rig.until(lambda: worker.assigned and worker.started_us(worker.assigned[0]), "a job that has begun")
    return worker.assigned[0]


def stop(worker: Any, held: Assignment, reason: StopReason) -> None:
    held.stop_reason = reason
    worker.interrupt(held, CONTROL_TIMEOUT if reason is StopReason.TIMEOUT else CONTROL_CANCEL)


@pytest.mark.parametrize(("reason", "kind"), [(StopReason.TIMEOUT, TimedOut), (StopReason.CANCEL, Cancelled)])
def test_a_handler_in_python_is_interrupted_and_its_process_lives(
    rig: DaskRig, tmp_path: Path, reason: StopReason, kind: type
) -> None:
    worker = rig.ready()
    pid = worker.pid
    job = rig.give(worker, "hold", started=tmp_path / "started")
    stop(worker, begun(rig, worker), reason)
    assert type(rig.settled(job).outcome) is kind
    assert msgspec.json.decode(rig.settled(rig.give(worker, "echo", value=1)).outcome.result) == 1  # type: ignore[union-attr]
    assert (worker.pid, lives(pid)) == (pid, True)


def test_a_job_that_no_exception_ends_dies_with_its_worker_and_the_cluster_gets_another(rig: DaskRig) -> None:
    rig.count_workers(2)
    worker = rig.ready()
    pid = worker.pid
    job = rig.give(worker, "sleep", seconds=600)
    held = begun(rig, worker)
    stop(worker, held, StopReason.TIMEOUT)
    rig.pool.kill([worker])
    assert type(rig.settled(job).outcome) is TimedOut
    until(lambda: not lives(pid), what="the end of the dask worker")
    rig.wait_for(Gone)
    rig.count_workers(2)


def test_a_stopped_worker_is_killed_all_the_same(rig: DaskRig, tmp_path: Path) -> None:
    """As a handler that holds the interpreter for ever: nothing in that process answers."""
    rig.count_workers(2)
    worker = rig.ready()
    job = rig.give(worker, "hold", started=tmp_path / "started")
    held = begun(rig, worker)
    os.kill(worker.pid, signal.SIGSTOP)
    stop(worker, held, StopReason.CANCEL)
    rig.pool.kill([worker])
    assert type(rig.settled(job).outcome) is Cancelled
    rig.count_workers(2)


def test_a_dead_workers_job_has_an_outcome_and_dask_does_not_run_it_again(rig: DaskRig, tmp_path: Path) -> None:
    rig.count_workers(2)
    worker = rig.ready()
    started = tmp_path / "started"
    job = rig.give(worker, "hold", started=started)
    begun(rig, worker)
    os.kill(pid_in(started), signal.SIGKILL)
    outcome = rig.settled(job).outcome
    assert isinstance(outcome, WorkerDied)
    assert "left the cluster while the job was running" in outcome.error.message
    rig.count_workers(2)
    for other in (rig.ready(), rig.ready()):
        rig.settled(rig.give(other, "noop"))
    assert len(started.read_text().split()) == 1


def test_a_job_that_waits_in_dask_is_taken_back_and_never_begins(rig: DaskRig, tmp_path: Path) -> None:
    """Somebody else's jobs have the worker: here, those of a second supervisor of the same app."""
    rig.count_workers(2)
    other = DaskRig(tmp_path / "other", rig.place)
    try:
        other.open()
        busy = [other.ready(), other.ready()]
        gate = tmp_path / "gate"
        held = [other.give(each, "hold", started=tmp_path / "theirs", gate=gate) for each in busy]
        for each in busy:
            begun(other, each)
        worker = rig.ready()
        job = rig.give(worker, "whoami", path=tmp_path / "ours")
        returned = rig.wait_for(Returned)  # that process runs one job at a time, whoever wants it
        assert returned.jobs == [job]
        gate.touch()
        for each in held:
            assert isinstance(other.settled(each).outcome, Completed)
        assert not (tmp_path / "ours").exists()
    finally:
        other.close()


@contextmanager
def occupied(worker: Any, shared: Cluster, gate: Path) -> Iterator[None]:
    """Inside it, tasks of somebody else fill the threads of this dask worker."""
    pinned: dict[str, Any] = {"workers": [worker.address], "pure": False}
    with distributed.Client(shared.address, set_as_default=False) as client:
        fillers = [client.submit(wait_for, str(gate), **pinned) for _ in range(THREADS)]
        until(lambda: len(client.processing()[worker.address]) == THREADS, what="a full worker")
        yield
        gate.touch()
        for each in fillers:
            each.result(20)


def test_a_job_that_waits_for_a_thread_is_taken_back_and_never_begins(
    rig: DaskRig, shared: Cluster, tmp_path: Path
) -> None:
    worker = rig.ready()
    with occupied(worker, shared, tmp_path / "gate"):
        job = rig.give(worker, "whoami", path=tmp_path / "signed")
        rig.pool.kill([worker])
        assert rig.wait_for(Returned).jobs == [job]
        assert not rig.all(Settled)
    rig.settled(rig.give(rig.ready(), "noop"))
    assert not (tmp_path / "signed").exists()
    assert lives(worker.pid)  # nobody else's work ended for it


def test_no_start_begins_twice_and_none_in_another_process(
    rig: DaskRig, shared: Cluster, tmp_path: Path
) -> None:
    """Dask runs a task again whose worker died, on the next process of that address."""
    worker = rig.ready()
    attach = frames.encode(rig._attach(0))
    signed = tmp_path / "signed"

    def asked(process: str) -> tuple[str | bytes, ...]:
        job = encode_jobs([(rig.job("whoami", path=signed), None)])
        return process, "token", "topic", "key", worker.boot_frame, attach, job

    with distributed.Client(shared.address, set_as_default=False) as client:
        pinned: dict[str, Any] = {"workers": [worker.address], "pure": False}
        assert client.submit(remote.run, *asked("another"), **pinned).result(20) == messages.NOT_BEGUN
        assert not signed.exists()
        ours = asked(worker.process)
        answers = [client.submit(remote.run, *ours, **pinned).result(20) for _ in range(2)]
    assert answers[0] != messages.NOT_BEGUN
    assert answers[1] == messages.NOT_BEGUN
    assert len(signed.read_text().split()) == 1


def test_a_retired_worker_ends_after_its_job_and_the_cluster_gets_another(rig: DaskRig, tmp_path: Path) -> None:
    """As after `max_jobs_per_worker`, or a job that ran out of memory."""
    worker = rig.ready()
    pid, gate = worker.pid, tmp_path / "gate"
    job = rig.give(worker, "hold", started=tmp_path / "started", gate=gate)
    worker.retire()
    begun(rig, worker)
    assert lives(pid)
    gate.touch()
    assert isinstance(rig.settled(job).outcome, Completed)
    rig.wait_for(Gone)
    until(lambda: not lives(pid), what="the end of the dask worker")
    rig.count_workers(2)


def test_a_job_that_nobody_can_end_is_decided_as_if_it_had_ended(tmp_path: Path) -> None:
    """A dask worker without a nanny: its process cannot be killed from here, and nothing waits for it."""
    with cluster(tmp_path, 1, "--no-nanny") as own:
        rig = DaskRig(tmp_path, own.pool, workers=1)
        try:
            rig.open()
            worker = rig.ready()
            job = rig.give(worker, "sleep", seconds=600)
            stop(worker, begun(rig, worker), StopReason.TIMEOUT)
            rig.pool.kill([worker])
            assert type(rig.settled(job).outcome) is TimedOut
            assert lives(worker.pid)
            assert rig.pool.capacity == 0  # it gets no other job
        finally:
            rig.close()


def test_what_is_given_up_is_ended(rig: DaskRig, tmp_path: Path) -> None:
    rig.count_workers(2)
    worker = rig.ready()
    rig.give(worker, "hold", started=tmp_path / "started")
    begun(rig, worker)
    pid = worker.pid
    rig.pool.kill_all()
    until(lambda: not lives(pid), what="the end of the dask worker")

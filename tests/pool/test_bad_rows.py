"""A row that holds what no row should costs its own job, and nobody else anything."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import pytest

from mpdispatch.model import ClaimedJob, Completed, Raised
from mpdispatch.pool.process import WorkerProcess
from tests.pool.probes import pid_in, state_of, until
from tests.pool.rig import Gone, Rig

PAYLOADS = {
    "junk": b"junk",
    "empty": b"",
    "no UTF-8": b'\xff\xfe{"value": 1}',
    "text that is no UTF-8": b'{"value": "\xff"}',
    "NaN": b"NaN",
    "another kind": b"[1, 2]",
    "deep": b'{"value": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep and unclosed": b'{"a":' * 100_000,
    "another job": b'{}],["run",99,1,1,"noop","default",0,0,3,null,null,null,{}',
    "another frame": b'{}\n[[99,1,1,"noop","default",0,0,3,null,null,"",null,null,2]]\n{}',
}


def _with(job: ClaimedJob, **columns: object) -> ClaimedJob:
    return msgspec.structs.replace(job, **columns)


def _one_worker_ran_all(rig: Rig, worker: WorkerProcess) -> None:
    assert rig.all(Gone) == []
    assert worker in rig.pool.ready


@pytest.mark.parametrize("kind", PAYLOADS)
def test_a_payload_that_is_no_arguments_ends_its_job_and_the_others_of_its_frame_run(
    rig: Rig, kind: str
) -> None:
    worker = rig.ready()
    bad = _with(rig.job("echo"), payload=PAYLOADS[kind])
    jobs = [rig.job("echo", value=1), bad, rig.job("echo", value=2)]
    rig.give_together(worker, *jobs)
    outcomes = [rig.settled(job).outcome for job in jobs]
    assert [each.result for each in outcomes if isinstance(each, Completed)] == [b"1", b"2"]
    refused = outcomes[1]
    assert isinstance(refused, Raised)
    assert not refused.is_retryable, "no worker could ever run it"
    assert refused.error.type.endswith("PayloadError")
    if kind == "deep":  # from Python 3.14 on, JSON of any depth can be decoded
        assert "nested" in refused.error.message or "in the store" in refused.error.message
    elif kind != "text that is no UTF-8":
        assert f"the payload of job {bad.id} in the store" in refused.error.message
    _one_worker_ran_all(rig, worker)


@pytest.mark.parametrize(("column", "value"), [("priority", "high"), ("attempt", 1.5), ("queue", None)])
def test_a_column_of_another_kind_ends_its_job_and_the_others_of_its_frame_run(
    rig: Rig, column: str, value: object
) -> None:
    worker = rig.ready()
    bad = _with(rig.job("echo", value=7), **{column: value})
    jobs = [rig.job("noop"), bad, rig.job("noop")]
    rig.give_together(worker, *jobs)
    first, refused, last = [rig.settled(job).outcome for job in jobs]
    assert isinstance(first, Completed)
    assert isinstance(last, Completed)
    assert isinstance(refused, Raised)
    assert not refused.is_retryable
    assert f"job {bad.id}" in refused.error.message
    assert f"`{column}`" in refused.error.message
    assert worker.record is not None
    assert worker.record.has(bad.id, bad.starts), "its start is spent, also for a rescuer"
    _one_worker_ran_all(rig, worker)


# ---------------------------------------------------------------- an answer is said before anything else is read


def _send_behind(rig: Rig, worker: WorkerProcess, frame: bytes) -> None:
    """Put this into its channel, behind what it runs."""
    assert worker.launched.permits is not None
    worker.launched.permits.add(1)
    assert worker.launched.channel.send(frame, wait=False)


BAD_FRAMES = [b'[["run",1', b"[[]]\n", b"no frame", b"@"]


@pytest.mark.parametrize("frame", BAD_FRAMES)
def test_a_job_that_had_ended_counts_whatever_lies_behind_it_in_the_channel(
    rig: Rig, tmp_path: Path, frame: bytes
) -> None:
    worker = rig.ready()
    job = rig.give(worker, "hold", started=tmp_path / "started", gate=tmp_path / "gate")
    pid_in(tmp_path / "started")
    _send_behind(rig, worker, frame)
    (tmp_path / "gate").touch()
    assert isinstance(rig.settled(job).outcome, Completed)
    rig.wait_for(Gone)
    assert rig.summary() == ["Settled hold Completed", "Gone"]


@pytest.mark.parametrize("frame", BAD_FRAMES[:2])
def test_all_jobs_of_a_frame_that_had_ended_count_before_a_bad_one(rig: Rig, frame: bytes) -> None:
    worker = rig.ready()
    os.kill(worker.pid, signal.SIGSTOP)
    until(lambda: state_of(worker.pid) == "T")
    jobs = [rig.job("noop") for _ in range(20)]
    rig.give_together(worker, *jobs)
    _send_behind(rig, worker, frame)
    os.kill(worker.pid, signal.SIGCONT)
    rig.wait_for(Gone)
    assert rig.summary() == ["Settled noop Completed"] * 20 + ["Gone"]


# ---------------------------------------------------------------- a worker that is to be replaced


def test_a_worker_that_cannot_be_put_in_order_begins_nothing_more(rig: Rig, tmp_path: Path) -> None:
    worker = rig.ready()
    jobs = [rig.job("leave_thread"), *[rig.job("whoami", path=tmp_path / "began") for _ in range(20)]]
    rig.give_together(worker, *jobs)
    # Not heard until it has done what it would: it was quicker than its supervisor, and ran the next in a bad state.
    until(lambda: rig.is_readable(worker))
    rig.wait_for(Gone)
    assert not (tmp_path / "began").exists()
    assert rig.summary() == ["Settled leave_thread Completed", "Returned 20", "Gone"]

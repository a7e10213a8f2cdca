"""The pool as a whole: records, recall, tired workers, what cannot be started, what cannot be sent."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mpdispatch.host.kill import WORKER_VARIABLE
from mpdispatch.model import ClaimedJob, Completed, Raised, WorkerDied
from mpdispatch.pool import exec as launching
from mpdispatch.pool.assigned import StopReason, WorkerState
from mpdispatch.pool.channel import Channel, ChannelBroken
from mpdispatch.pool.permits import StartPermits
from mpdispatch.pool.process import WorkerProcess
from tests.pool.probes import lives, pid_in, state_of, until
from tests.pool.rig import TOKEN, BootFault, Gone, Progressed, Ready, Returned, Rig, Settled

# ---------------------------------------------------------------- jobs


def test_jobs_are_run_one_after_the_other_in_the_order_given(rig: Rig) -> None:
    worker = rig.ready()
    jobs = [rig.give(worker, "echo", value=number) for number in range(50)]
    rig.until(lambda: not worker.assigned)
    settled = rig.all(Settled)
    assert [each.job for each in settled] == jobs
    assert [each.outcome.result for each in settled if isinstance(each.outcome, Completed)] == [
        str(number).encode() for number in range(50)
    ]
    assert worker.unwritten == worker.jobs_sent == 50


@pytest.mark.parametrize("size", [0, 65_000, 66_000, 900_000])
def test_arguments_of_any_size_arrive_and_come_back(rig: Rig, size: int) -> None:
    outcome = rig.settled(rig.give(rig.ready(), "echo", value="x" * size)).outcome
    assert isinstance(outcome, Completed)
    assert outcome.result == b'"' + b"x" * size + b'"'


def test_a_busy_workers_unread_jobs_come_back_in_order_and_it_goes_on(rig: Rig, tmp_path: Path) -> None:
    worker = rig.ready()
    running = rig.give(worker, "hold", started=tmp_path / "started", gate=tmp_path / "gate")
    pid_in(tmp_path / "started")
    waiting = [rig.give(worker, "echo", value="x" * (number * 30_000)) for number in range(5)]
    assert worker.recall() == waiting
    assert [held.job for held in worker.assigned] == [running]
    assert worker.unwritten == 1
    (tmp_path / "gate").touch()
    assert isinstance(rig.settled(running).outcome, Completed)
    rig.until(lambda: worker in rig.pool.ready, "word that it has let go of them")
    again = rig.give(worker, "noop")
    assert isinstance(rig.settled(again).outcome, Completed)


def test_jobs_a_worker_has_received_and_not_begun_come_back_as_well(rig: Rig, tmp_path: Path) -> None:
    worker = rig.ready()
    running = rig.job("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    together = [rig.job("echo", value=number) for number in range(3)]
    rig.give_together(worker, running, *together)
    pid_in(tmp_path / "started")  # it has read the frame of all four
    behind = rig.give(worker, "echo", value=3)
    assert worker.recall() == [*together, behind]
    assert [held.job for held in worker.assigned] == [running]
    # It holds three jobs that are not its own: a new one might be taken for one of them.
    assert worker not in rig.pool.ready
    assert worker.recall() == []
    (tmp_path / "gate").touch()
    rig.until(lambda: worker in rig.pool.ready, "word that it has let go of them")
    again = rig.give(worker, "echo", value=4)
    rig.settled(again)
    assert [each.job for each in rig.all(Settled)] == [running, again]


def test_tokens_of_jobs_that_could_not_be_sent_are_taken_back(rig: Rig) -> None:
    worker = rig.ready()
    os.kill(worker.pid, signal.SIGSTOP)
    until(lambda: state_of(worker.pid) == "T")
    jobs = [rig.job("echo", value="x" * 30_000) for _ in range(30)]
    for job in jobs:
        worker.assign([job], 0)
    left = worker.flush()
    assert 0 < len(left) < 30
    assert [held.job for held in worker.assigned] + left == jobs
    assert worker.unwritten == worker.jobs_sent == 30 - len(left)
    os.kill(worker.pid, signal.SIGCONT)
    rig.until(lambda: not worker.assigned)
    assert isinstance(rig.settled(rig.give(worker, "noop")).outcome, Completed)


def test_without_eventfds_jobs_run_all_the_same_and_none_is_taken_back(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on macOS.
    monkeypatch.setattr(StartPermits, "make", lambda: None)
    worker = rig.ready()
    running = rig.job("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    behind = [rig.job("echo", value=number) for number in range(3)]
    rig.give_together(worker, running, *behind)
    pid_in(tmp_path / "started")
    assert worker.recall() == []
    (tmp_path / "gate").touch()
    rig.until(lambda: not worker.assigned)
    assert [each.job for each in rig.all(Settled)] == [running, *behind]
    worker.retire()
    rig.wait_for(Gone)


def _fill(rig: Rig, worker: WorkerProcess) -> list[ClaimedJob]:
    """Stop it and give it jobs until no more go into its buffer."""
    os.kill(worker.pid, signal.SIGSTOP)
    until(lambda: state_of(worker.pid) == "T")
    jobs = [rig.job("echo", value="x" * 50_000)]
    worker.assign([jobs[-1]], 0)
    while worker.flush() == []:
        jobs.append(rig.job("echo", value="x" * 50_000))
        worker.assign([jobs[-1]], 0)
    return jobs[:-1]


def test_a_worker_whose_buffer_is_full_can_be_retired_and_does_what_it_holds(rig: Rig) -> None:
    worker = rig.ready()
    jobs = _fill(rig, worker)
    worker.retire()
    assert worker.state is WorkerState.RETIRING
    os.kill(worker.pid, signal.SIGCONT)
    rig.wait_for(Gone)
    assert [each.job for each in rig.all(Settled)] == jobs
    assert worker.exit_status is not None
    assert worker.exit_status.code == 0


def test_a_retired_worker_ends_though_all_that_fills_its_buffer_was_taken_back(rig: Rig) -> None:
    worker = rig.ready()
    jobs = _fill(rig, worker)
    assert worker.recall() == jobs
    worker.retire()
    os.kill(worker.pid, signal.SIGCONT)
    rig.wait_for(Gone)
    assert rig.summary() == ["Gone"]
    assert worker.exit_status is not None
    assert worker.exit_status.code == 0


def test_a_running_job_is_not_taken_back_though_somebody_added_a_token(rig: Rig, tmp_path: Path) -> None:
    worker = rig.ready()
    running = rig.give(worker, "hold", started=tmp_path / "started")
    pid_in(tmp_path / "started")
    assert worker.launched.permits is not None
    worker.launched.permits.add(1)
    assert worker.recall() == []
    assert "permits" in str(worker.is_broken)
    assert isinstance(rig.settled(running).outcome, WorkerDied)


def test_a_worker_whose_tokens_cannot_be_counted_any_more_is_replaced(rig: Rig) -> None:
    worker = rig.ready()
    assert worker.launched.permits is not None
    os.eventfd_write(worker.launched.permits.fd, 2**64 - 2)  # as a handler could
    job = rig.job("noop")
    worker.assign([job], 0)
    assert worker.flush() == [job]
    rig.wait_for(Gone)
    assert rig.all(Settled) == []


def test_a_worker_that_lets_go_of_jobs_that_are_its_own_is_replaced_and_they_come_back(rig: Rig) -> None:
    worker = rig.ready()
    assert worker.launched.permits is not None
    os.kill(worker.pid, signal.SIGSTOP)
    until(lambda: state_of(worker.pid) == "T")
    job = rig.give(worker, "noop")
    assert worker.launched.permits.take()  # as a handler could
    os.kill(worker.pid, signal.SIGCONT)
    rig.wait_for(Gone)
    assert [each.jobs for each in rig.all(Returned)] == [[job]]
    assert "were not recalled" in str(worker.is_broken)


def test_answers_before_junk_count(rig: Rig) -> None:
    worker = rig.ready()
    rig.events.clear()
    jobs = [rig.job("boom"), rig.job("noop"), rig.job("mischief", action="junk", lasts=True)]
    rig.give_together(worker, *jobs)
    until(lambda: rig.is_readable(worker))
    rig.wait_for(Gone)
    assert rig.summary() == [
        "Settled boom Raised",
        "Settled noop Completed",
        "Settled mischief WorkerDied",
        "Gone",
    ]


def test_a_full_buffer_leaves_the_job_with_the_caller(rig: Rig) -> None:
    worker = rig.ready()
    os.kill(worker.pid, signal.SIGSTOP)
    until(lambda: state_of(worker.pid) == "T")
    given = 0
    while True:
        job = rig.job("echo", value="x" * 50_000)
        worker.assign([job], 0)
        if worker.flush() == [job]:
            break
        given += 1
        assert given < 100
    assert len(worker.assigned) == worker.unwritten == given > 0
    assert worker.state is WorkerState.READY
    os.kill(worker.pid, signal.SIGCONT)
    rig.until(lambda: not worker.assigned)
    assert rig.summary() == ["Settled echo Completed"] * given


def test_a_worker_that_cannot_be_sent_to_is_killed_and_not_tried_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = rig.ready()

    def broken(*_: object, **__: object) -> bool:
        raise ChannelBroken("send: broken pipe")

    with monkeypatch.context() as patched:
        patched.setattr(Channel, "send", broken)
        job = rig.job("noop")
        worker.assign([job], 0)
        assert worker.flush() == [job]
    assert worker not in rig.pool.ready
    rig.wait_for(Gone)


def test_progress_is_heard_with_its_start(rig: Rig, tmp_path: Path) -> None:
    job = rig.give(rig.ready(), "report", gate=tmp_path / "gate")
    said = rig.wait_for(Progressed)
    assert (said.job_id, said.starts) == (job.id, job.starts)
    assert b"half" in said.data
    (tmp_path / "gate").touch()
    rig.settled(job)


@pytest.mark.parametrize(("how", "type_name"), [("unprintable", "Unprintable"), ("sys.exit", "SystemExit")])
def test_a_handler_that_raises_strangely_leaves_its_worker_alive(rig: Rig, how: str, type_name: str) -> None:
    worker = rig.ready()
    outcome = rig.settled(rig.give(worker, "boom", how=how)).outcome
    assert isinstance(outcome, Raised)
    assert type_name in outcome.error.type
    assert isinstance(rig.settled(rig.give(worker, "noop")).outcome, Completed)


def test_an_interrupt_ends_the_job_it_names_and_no_other(rig: Rig, tmp_path: Path) -> None:
    worker = rig.ready()
    first = rig.give(worker, "hold", started=tmp_path / "a")
    second = rig.give(worker, "hold", started=tmp_path / "b", gate=tmp_path / "gate")
    pid_in(tmp_path / "a")
    held = worker.find(first.id, first.starts)
    assert held is not None
    held.stop_reason = StopReason.CANCEL
    worker.interrupt(held, 2)
    assert type(rig.settled(first).outcome).__name__ == "Cancelled"
    pid_in(tmp_path / "b")
    worker.interrupt(held, 2)
    (tmp_path / "gate").touch()
    assert isinstance(rig.settled(second).outcome, Completed)


def test_a_tired_worker_gives_back_what_waits_and_ends(rig: Rig, tmp_path: Path) -> None:
    worker = rig.ready()
    rig.give(worker, "leave_thread")
    os.kill(worker.pid, signal.SIGSTOP)
    jobs = [rig.give(worker, "noop") for _ in range(20)]
    os.kill(worker.pid, signal.SIGCONT)
    rig.wait_for(Gone)
    done = [each.job for each in rig.all(Settled)][1:]
    back = [job for each in rig.all(Returned) for job in each.jobs]
    # It may read one more while we take back: none is lost or doubled, whichever order that makes.
    assert sorted(job.id for job in done + back) == [job.id for job in jobs]
    assert all(isinstance(each.outcome, Completed) for each in rig.all(Settled))
    assert worker.exit_status is not None
    assert worker.exit_status.code == 0


# ---------------------------------------------------------------- records


def test_a_ring_is_kept_until_the_last_outcome_of_its_worker_is_on_disk(tmp_path: Path, no_leaks: None) -> None:
    rig = Rig(tmp_path, records=1)
    rig.open()
    first = rig.ready()
    job = rig.give(first, "noop")
    rig.settled(job)
    first.retire()
    rig.wait_for(Gone)
    second = rig.pool.spawn()
    rig.wait_for(Ready, 2)
    rig.pool.free_records()
    assert second.state is WorkerState.READY
    assert second not in rig.pool.ready
    assert first.record is not None
    assert first.record.has(job.id, job.starts)
    first.written()
    rig.pool.free_records()
    assert second in rig.pool.ready
    assert isinstance(rig.settled(rig.give(second, "noop")).outcome, Completed)
    rig.close()


def test_a_worker_may_be_ready_before_the_store_is_open(tmp_path: Path, no_leaks: None) -> None:
    rig = Rig(tmp_path)
    worker = rig.pool.spawn()
    assert "noop" in rig.wait_for(Ready).app.jobs
    assert rig.pool.ready == []
    rig.open()
    assert rig.pool.ready == [worker]
    assert isinstance(rig.settled(rig.give(worker, "noop")).outcome, Completed)
    rig.close()


def test_a_worker_carries_the_mark_it_is_found_by(rig: Rig) -> None:
    workers = [rig.ready(), rig.ready()]
    for number, worker in enumerate(workers, 1):
        with open(f"/proc/{worker.pid}/environ", "rb") as file:
            environment = file.read().split(b"\0")
        assert f"{WORKER_VARIABLE}={TOKEN}.{number}".encode() in environment


# ---------------------------------------------------------------- what cannot be had


def _children() -> set[str]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return set(file.read().split())


@pytest.mark.parametrize("call", ["os.pipe", "os.pidfd_open", "subprocess.Popen", "socket"])
def test_a_worker_that_cannot_be_started_leaves_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    before, children = set(os.listdir("/proc/self/fd")), _children()
    with monkeypatch.context() as patched:
        if call == "socket":
            patched.setattr("mpdispatch.pool.channel.socket.socketpair", exhausted)
        else:
            patched.setattr(f"{launching.__name__}.{call}", exhausted)
        with pytest.raises(OSError, match="Too many"):
            rig.pool.spawn()
    assert set(os.listdir("/proc/self/fd")) == before
    assert rig.pool.workers == []
    assert _children() <= children, "those of an earlier test may still be there"


def test_an_exit_status_somebody_else_took_is_an_end_all_the_same(rig: Rig, tmp_path: Path) -> None:
    worker = rig.ready()
    job = rig.give(worker, "hold", started=tmp_path / "started")
    pid_in(tmp_path / "started")
    os.kill(worker.pid, signal.SIGKILL)
    os.waitpid(worker.pid, 0)  # as a waitpid(-1) in the host's code would
    outcome = rig.settled(job).outcome
    assert "took its exit status" in outcome.error.message  # type: ignore[union-attr]
    rig.wait_for(Gone)


def test_who_has_a_workers_pid_after_it_is_not_killed_with_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = rig.pool.spawn()
    rig.wait_for(Ready)
    os.kill(worker.pid, signal.SIGKILL)
    os.waitpid(worker.pid, 0)  # a host that waits for every child
    sent: list[object] = []
    with monkeypatch.context() as patched:
        patched.setattr(os, "killpg", lambda *what: sent.append(what))
        worker.kill()
    assert sent == []
    rig.wait_for(Gone)


def test_a_boot_that_does_not_end_is_ended_with_the_pool(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOT_GATE", str(tmp_path / "never"))
    worker = rig.pool.spawn()
    pid_in(tmp_path / "never.waiting")
    rig.pool.kill_all()
    assert not lives(worker.pid)
    assert rig.all(BootFault) == []


# ---------------------------------------------------------------- the supervisor's own death

_SUPERVISOR = """
import os, signal, sys
from pathlib import Path
from tests.pool.rig import Rig
rig = Rig(Path(sys.argv[1])); rig.open()
worker = rig.ready()
rig.give(worker, sys.argv[2], started=sys.argv[1] + "/started")
rig.until(lambda: os.path.exists(sys.argv[1] + "/started"))
if sys.argv[3] == "stopped":
    os.kill(worker.pid, signal.SIGSTOP)
print(worker.pid, flush=True)
signal.pause()
"""


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_workers_die_with_their_supervisor(tmp_path: Path, state: str) -> None:
    supervisor = subprocess.Popen(
        [sys.executable, "-c", _SUPERVISOR, tmp_path, "stubborn", state],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert supervisor.stdout is not None
    worker = int(supervisor.stdout.readline())
    supervisor.kill()
    until(lambda: not lives(worker), timeout_s=2)
    supervisor.wait()
    supervisor.stdout.close()

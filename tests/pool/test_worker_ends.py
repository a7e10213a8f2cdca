"""Every state of the protocol times everything that can befall a worker: exact events, nothing lost, nothing leaked."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mpdispatch.model import Completed, WorkerDied
from mpdispatch.pool.assigned import WorkerState
from mpdispatch.pool.process import WorkerProcess
from tests.pool.probes import children, lives, pid_in, state_of, until
from tests.pool.rig import BootFault, Gone, Returned, Rig, Settled

# What the worker does to itself: (exit status, signal) of its end, and the type of the error if a job was running.
ENDS: dict[str, tuple[int | None, str | None, str]] = {
    "sigkill": (None, "SIGKILL", "WorkerDied"),
    "segfault": (None, "SIGSEGV", "WorkerDied"),
    "exit 0": (0, None, "WorkerDied"),
    "exit 3": (3, None, "WorkerDied"),
    "close fds": (70, None, "WorkerChannelLost"),
    "junk": (None, "SIGKILL", "WorkerChannelLost"),
    "empty packet": (None, "SIGKILL", "WorkerChannelLost"),
    "too long": (None, "SIGKILL", "WorkerChannelLost"),
    "alien answer": (None, "SIGKILL", "WorkerChannelLost"),
}
# What is done to it from outside.
BLOWS = ["kill", "stop, then kill"]


def strike(worker: WorkerProcess, blow: str) -> None:
    if blow == "stop, then kill":
        os.kill(worker.pid, signal.SIGSTOP)
        until(lambda: state_of(worker.pid) == "T")
    os.kill(worker.pid, signal.SIGKILL)


def check_death(settled: Settled, end: tuple[int | None, str | None, str]) -> None:
    outcome = settled.outcome
    assert isinstance(outcome, WorkerDied)
    assert (outcome.exit_status, outcome.signal, outcome.error.type) == end
    assert outcome.run.worker_pid == settled.worker.pid
    assert outcome.run.duration_us is not None


# ---------------------------------------------------------------- booting


@pytest.mark.parametrize("blow", BLOWS)
def test_a_worker_struck_while_it_imports_is_a_boot_fault(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blow: str
) -> None:
    monkeypatch.setenv("BOOT_GATE", str(tmp_path / "never"))
    worker = rig.pool.spawn()
    pid_in(tmp_path / "never.waiting")
    strike(worker, blow)
    assert "SIGKILL" in rig.wait_for(BootFault).reason
    assert rig.summary() == ["BootFault"]
    assert rig.pool.workers == []


@pytest.mark.parametrize("blow", BLOWS)
def test_a_worker_struck_before_its_first_instruction_is_a_boot_fault(rig: Rig, blow: str) -> None:
    # Its frames are all unread: they are no jobs.
    strike(rig.pool.spawn(), blow)
    rig.wait_for(BootFault)
    assert rig.summary() == ["BootFault"]


BOOT_ENDS = {
    "sigkill": "SIGKILL",
    "segfault": "SIGSEGV",
    "exit 0": "status 0",
    "exit 3": "status 3",
    "close fds": "status 70",
    "junk": "SIGKILL",
    "empty packet": "SIGKILL",
    "too long": "SIGKILL",
    "alien answer": "SIGKILL",
}


@pytest.mark.parametrize("action", BOOT_ENDS)
def test_an_app_that_ends_its_worker_while_imported_is_a_boot_fault(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setenv("BOOT_ACTION", action)
    rig.pool.spawn()
    assert BOOT_ENDS[action] in rig.wait_for(BootFault).reason
    assert rig.summary() == ["BootFault"]


def test_an_app_that_does_not_import_says_why(
    tmp_path: Path, no_leaks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_app.py").write_text("import mpdispatch.nowhere")
    monkeypatch.syspath_prepend(tmp_path)
    rig = Rig(tmp_path, target="broken_app:engine")
    rig.open()
    rig.pool.spawn()
    fault = rig.wait_for(BootFault)
    assert "mpdispatch.nowhere" in fault.reason
    assert "broken_app.py" in fault.traceback
    assert rig.summary() == ["BootFault"]
    rig.close()


def _open_to_all(rig: Rig) -> None:
    rig.folder.chmod(0o777)


def _without_marks(rig: Rig) -> None:
    rig.marks.path.unlink()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_open_to_all, "can be written by others (drwxrwxrwx); chmod 700 "),
        (_without_marks, "No such file or directory"),
    ],
)
def test_a_worker_that_may_not_open_its_marks_says_so_without_a_traceback(
    rig: Rig, capfd: pytest.CaptureFixture[str], spoil: Callable[[Rig], None], why: str
) -> None:
    spoil(rig)
    try:
        worker = rig.pool.spawn()
        job = rig.give(worker, "quick")
        fault = rig.wait_for(BootFault)
        assert fault.reason.startswith("the start journal cannot be opened: ")
        assert why in fault.reason
        assert fault.traceback == ""
        assert rig.all(Returned)[0].jobs == [job]
        assert rig.summary() == ["Returned 1", "BootFault"]
        assert rig.pool.workers == []
        assert "Traceback" not in capfd.readouterr().err
    finally:
        rig.folder.chmod(0o700)
    rig.ready() if spoil is _open_to_all else None


# ---------------------------------------------------------------- ready and idle


@pytest.mark.parametrize("blow", BLOWS)
def test_an_idle_worker_that_is_struck_is_gone(rig: Rig, blow: str) -> None:
    worker = rig.ready()
    strike(worker, blow)
    rig.wait_for(Gone)
    assert rig.summary() == ["Gone"]


@pytest.mark.parametrize("action", [each for each in ENDS if each != "close fds"])
def test_an_idle_worker_that_ends_itself_is_gone(rig: Rig, tmp_path: Path, action: str) -> None:
    worker = rig.ready()
    rig.settled(rig.give(worker, "mischief_later", gate=tmp_path / "gate", action=action))
    (tmp_path / "gate").touch()
    rig.wait_for(Gone)
    assert rig.summary() == ["Settled mischief_later Completed", "Gone"]


# ---------------------------------------------------------------- sent, and not read


@pytest.mark.parametrize("blow", BLOWS)
def test_jobs_a_worker_never_read_come_back_unspent(rig: Rig, blow: str) -> None:
    worker = rig.ready()
    os.kill(worker.pid, signal.SIGSTOP)
    until(lambda: state_of(worker.pid) == "T")
    jobs = [rig.give(worker, "noop") for _ in range(3)]
    jobs.append(rig.give(worker, "echo", value="x" * 100_000))
    strike(worker, blow)
    rig.wait_for(Gone)
    assert rig.summary() == ["Returned 4", "Gone"]
    assert rig.all(Returned)[0].jobs == jobs
    assert worker.unwritten == 0


def test_a_job_that_was_read_and_not_begun_comes_back_unspent(rig: Rig) -> None:
    # Killed between reading a frame and marking the start: nothing lies in the buffer, and nothing is marked.
    worker = rig.ready()
    rig.settled(rig.give(worker, "noop"))  # so that nothing else lies there
    rig.events.clear()
    os.kill(worker.pid, signal.SIGSTOP)
    until(lambda: state_of(worker.pid) == "T")
    jobs = [rig.give(worker, "noop") for _ in range(2)]
    assert worker.launched.spare is not None
    assert worker.launched.spare.receive(wait=False) is not None
    strike(worker, "kill")
    rig.wait_for(Gone)
    assert rig.summary() == ["Returned 2", "Gone"]
    assert rig.all(Returned)[0].jobs == jobs


# ---------------------------------------------------------------- running


@pytest.mark.parametrize("blow", BLOWS)
def test_a_worker_struck_while_it_runs_settles_that_job_and_returns_the_rest(
    rig: Rig, tmp_path: Path, blow: str
) -> None:
    worker = rig.ready()
    running = rig.give(worker, "hold", started=tmp_path / "started")
    waiting = [rig.give(worker, "noop") for _ in range(3)]
    pid_in(tmp_path / "started")
    strike(worker, blow)
    check_death(rig.settled(running), ENDS["sigkill"])
    rig.wait_for(Gone)
    assert rig.summary() == ["Settled hold WorkerDied", "Returned 3", "Gone"]
    assert rig.all(Returned)[0].jobs == waiting


@pytest.mark.parametrize("action", ENDS)
def test_a_job_that_ends_its_worker_settles_and_the_rest_is_returned(rig: Rig, action: str) -> None:
    worker = rig.ready()
    running = rig.give(worker, "mischief", action=action, lasts=action != "close fds")
    waiting = [rig.give(worker, "noop") for _ in range(3)]
    settled = rig.settled(running)
    rig.wait_for(Gone)
    check_death(settled, ENDS[action])
    assert rig.summary() == ["Settled mischief WorkerDied", "Returned 3", "Gone"]
    assert rig.all(Returned)[0].jobs == waiting


@pytest.mark.parametrize("kills_children", [True, False])
def test_a_job_that_forks_and_returns_twice_is_answered_once(rig: Rig, kills_children: bool) -> None:
    rig.kills_children = kills_children
    worker = rig.ready()
    first = rig.give(worker, "mischief", action="fork back")
    assert isinstance(rig.settled(first).outcome, Completed)
    # What came back in the child has ended, without a word: an answer of its own would break the channel.
    until(lambda: not [pid for pid in children(worker.pid) if lives(pid)], what="the end of the child")
    assert isinstance(rig.settled(rig.give(worker, "echo", value=2)).outcome, Completed)
    worker.retire()
    rig.wait_for(Gone)
    assert rig.summary() == ["Settled mischief Completed", "Settled echo Completed", "Gone"]


def test_what_a_dying_job_left_running_ends_with_its_worker(rig: Rig, tmp_path: Path) -> None:
    kinds = ["child", "daemon", "cleared", "marked", "stopped"]
    worker = rig.ready()
    job = rig.give(worker, "leave", folder=tmp_path, kinds=kinds, gate=tmp_path / "never")
    pids = [pid_in(tmp_path / kind) for kind in kinds]
    strike(worker, "kill")
    rig.settled(job)
    for pid in pids:
        until(lambda pid=pid: not lives(pid))


# ---------------------------------------------------------------- answered, and not heard


def _unheard(rig: Rig, gate: Path, action: str = "") -> tuple[WorkerProcess, object]:
    """A worker whose answer nobody has heard, and which will do `action` once `gate` is there."""
    worker = rig.ready()
    job = rig.give(worker, "mischief_later", gate=gate, action=action)
    until(lambda: rig.is_readable(worker))
    return worker, job


@pytest.mark.parametrize("blow", BLOWS)
def test_a_result_written_just_before_a_blow_counts(rig: Rig, tmp_path: Path, blow: str) -> None:
    worker, job = _unheard(rig, tmp_path / "gate")
    strike(worker, blow)
    until(lambda: not lives(worker.pid))
    rig.wait_for(Gone)
    assert rig.summary() == ["Settled mischief_later Completed", "Gone"]
    assert rig.all(Settled)[0].job is job


@pytest.mark.parametrize("action", [each for each in ENDS if each != "close fds"])
def test_a_result_written_just_before_the_worker_ends_itself_counts(
    rig: Rig, tmp_path: Path, action: str
) -> None:
    worker, _ = _unheard(rig, tmp_path / "gate", action)
    (tmp_path / "gate").touch()
    if ENDS[action][2] == "WorkerDied":
        until(lambda: not lives(worker.pid))
    rig.wait_for(Gone)
    assert rig.summary() == ["Settled mischief_later Completed", "Gone"]


def test_a_result_counts_even_if_only_the_end_woke_us(rig: Rig, tmp_path: Path) -> None:
    # It was written after we had looked at the channel, and before we looked at the process.
    worker, job = _unheard(rig, tmp_path / "gate")
    strike(worker, "kill")
    until(lambda: not lives(worker.pid))
    events = until(
        lambda: [each for each in rig.selector.select(0.01) if getattr(each[0].data, "is_end", False)]
    )
    rig.events += rig.pool.receive(events)
    assert rig.summary() == ["Settled mischief_later Completed", "Gone"]
    assert rig.all(Settled)[0].job is job


def test_a_large_result_written_just_before_death_counts(rig: Rig) -> None:
    worker = rig.ready()
    job = rig.give(worker, "large", size=20_000_000)
    until(lambda: rig.is_readable(worker))
    strike(worker, "kill")
    until(lambda: not lives(worker.pid))
    outcome = rig.settled(job).outcome
    assert isinstance(outcome, Completed)
    assert len(outcome.result) == 20_000_002


# ---------------------------------------------------------------- being ended


def test_a_retired_worker_ends_once_its_hand_is_done(rig: Rig) -> None:
    worker = rig.ready()
    jobs = [rig.give(worker, "noop") for _ in range(5)]
    worker.retire()
    rig.wait_for(Gone)
    assert [each.job for each in rig.all(Settled)] == jobs
    assert worker.exit_status is not None
    assert worker.exit_status.code == 0


def test_a_retired_worker_still_ends_after_its_jobs_were_recalled(rig: Rig, tmp_path: Path) -> None:
    # The order to stop waits behind those jobs: it must not be taken back for good.
    worker = rig.ready()
    rig.give(worker, "hold", started=tmp_path / "started", gate=tmp_path / "gate")
    waiting = [rig.give(worker, "noop") for _ in range(2)]
    pid_in(tmp_path / "started")
    worker.retire()
    assert worker.recall() == waiting
    (tmp_path / "gate").touch()
    rig.wait_for(Gone)
    assert rig.summary() == ["Settled hold Completed", "Gone"]


def test_jobs_recalled_before_the_worker_was_told_of_its_ring_leave_it_useful(
    tmp_path: Path, no_leaks: None
) -> None:
    rig = Rig(tmp_path)
    worker = rig.pool.spawn()
    rig.until(lambda: worker.state is WorkerState.READY)
    os.kill(worker.pid, signal.SIGSTOP)
    until(lambda: state_of(worker.pid) == "T")
    rig.open()
    job = rig.give(worker, "echo", value=1)
    assert worker.recall() == [job]
    os.kill(worker.pid, signal.SIGCONT)
    rig.until(lambda: worker in rig.pool.ready, "word that it has let go of it")
    assert isinstance(rig.settled(rig.give(worker, "echo", value=2)).outcome, Completed)
    rig.close()


def test_a_recall_of_a_worker_that_imports_takes_nothing_from_it(rig: Rig) -> None:
    worker = rig.pool.spawn()
    assert worker.recall() == []
    rig.until(lambda: worker in rig.pool.ready)
    assert isinstance(rig.settled(rig.give(worker, "noop")).outcome, Completed)


def test_killing_all_leaves_nothing(rig: Rig, tmp_path: Path) -> None:
    workers = [rig.ready() for _ in range(2)]
    rig.give(workers[0], "stubborn", started=tmp_path / "started")
    pid_in(tmp_path / "started")
    os.kill(workers[1].pid, signal.SIGSTOP)
    rig.pool.kill_all()
    assert rig.pool.workers == []
    assert not any(lives(worker.pid) for worker in workers)

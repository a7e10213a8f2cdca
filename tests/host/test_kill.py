"""ExitStatus a worker ends all it started, however that hid, and nobody else."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from mpdispatch.host import kill
from mpdispatch.host.kill import (
    WORKER_VARIABLE,
    DeadWorker,
    kill_process,
    kill_session_leftovers,
    kill_tree,
)
from mpdispatch.host.processes import ProcessId, process_id, process_start
from tests.host.conftest import ROOT, TOKEN, Spawn
from tests.pool.probes import lives, pid_in, state_of, until


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.wait()


KINDS = ["child", "daemon", "cleared", "marked", "deaf", "stopped"]


def test_killing_the_tree_reaches_everything_a_subreaper_has_below_it(spawn: Spawn, tmp_path: Path) -> None:
    worker = spawn("subreaper", *KINDS)
    pids = [pid_in(tmp_path / kind) for kind in KINDS]
    assert {each.pid for each in psutil.Process(worker.pid).children(recursive=True)} == set(pids)
    kill_tree(process_id(worker.pid))
    _ended(worker)
    for pid in pids:
        until(lambda pid=pid: not lives(pid))


def test_a_stopped_worker_is_killed(spawn: Spawn, tmp_path: Path) -> None:
    worker = spawn("child")
    os.kill(worker.pid, signal.SIGSTOP)
    until(lambda: state_of(worker.pid) == "T")
    kill_tree(process_id(worker.pid))
    assert worker.wait() == -signal.SIGKILL
    until(lambda: not lives(pid_in(tmp_path / "child")))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sweep_finds_what_a_dead_worker_left(spawn: Spawn, tmp_path: Path, kind: str) -> None:
    # Without a subreaper and after its end: only the session and the mark are left to go by.
    worker = spawn(kind)
    identity = process_id(worker.pid)
    left = pid_in(tmp_path / kind)
    worker.kill()
    _ended(worker)
    assert lives(left)
    assert kill_session_leftovers([DeadWorker(identity, f"{TOKEN}.3\0")]) == 1
    until(lambda: not lives(left))


def test_the_session_of_a_living_worker_is_not_swept_but_its_mark_is(spawn: Spawn, tmp_path: Path) -> None:
    worker = spawn("cleared", "marked")
    assert kill_session_leftovers([DeadWorker(process_id(worker.pid), f"{TOKEN}.3\0")]) == 1
    until(lambda: not lives(pid_in(tmp_path / "marked")))
    assert lives(pid_in(tmp_path / "cleared"))
    assert lives(worker.pid)


def test_a_worker_whose_mark_only_begins_alike_is_not_swept(spawn: Spawn, tmp_path: Path) -> None:
    first = spawn("marked", tag=f"{TOKEN}.3", folder=tmp_path / "a")
    other = spawn("marked", tag=f"{TOKEN}.30", folder=tmp_path / "b")
    identity = process_id(first.pid)
    first.kill()
    _ended(first)
    assert kill_session_leftovers([DeadWorker(identity, f"{TOKEN}.3\0")]) == 1
    assert lives(other.pid)
    assert lives(pid_in(tmp_path / "b" / "marked"))
    until(lambda: not lives(pid_in(tmp_path / "a" / "marked")))


def test_a_whole_token_sweeps_every_worker_of_its_supervisor_and_no_other(spawn: Spawn, tmp_path: Path) -> None:
    dead = spawn(tag=f"{TOKEN}.1", folder=tmp_path / "a")
    mine = spawn(tag=f"{TOKEN}.22", folder=tmp_path / "b")
    alien = spawn(tag=f"{TOKEN}2.1", folder=tmp_path / "c")
    identity = process_id(dead.pid)
    dead.kill()
    _ended(dead)
    assert kill_session_leftovers([DeadWorker(identity, f"{TOKEN}.")]) == 1
    _ended(mine)
    assert lives(alien.pid)


def test_the_mark_must_be_the_variable_and_not_just_somewhere(spawn: Spawn, tmp_path: Path) -> None:
    spawn(tag=f"x {WORKER_VARIABLE}={TOKEN}.3")
    stranger = pid_in(tmp_path / "worker")
    assert kill_session_leftovers([DeadWorker(ProcessId(1 << 30, 0), f"{TOKEN}.3\0")]) == 0
    assert lives(stranger)


def test_without_a_mark_only_the_session_counts(spawn: Spawn, tmp_path: Path) -> None:
    worker = spawn("cleared", "marked")
    identity = process_id(worker.pid)
    worker.kill()
    _ended(worker)
    assert kill_session_leftovers([DeadWorker(identity, "")]) == 1
    until(lambda: not lives(pid_in(tmp_path / "cleared")))
    assert lives(pid_in(tmp_path / "marked"))


def test_what_is_older_than_the_worker_is_a_stranger(spawn: Spawn, tmp_path: Path) -> None:
    older = spawn(tag=f"{TOKEN}.3")
    later = ProcessId(1 << 30, process_id(older.pid).start + 1)
    assert kill_session_leftovers([DeadWorker(later, f"{TOKEN}.3\0")]) == 0
    assert lives(older.pid)


def test_a_sweep_passes_over_what_the_system_hides(
    spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder each, so that each is waited for: its mark can be read only when its exec is over.
    hidden = spawn(tag=f"{TOKEN}.3", folder=tmp_path / "a")
    left = spawn(tag=f"{TOKEN}.3", folder=tmp_path / "b")
    real = kill.process_start

    def start_of(pid: int) -> int | None:
        if pid == hidden.pid:
            raise PermissionError(errno.EACCES, "hidepid=1")
        return real(pid)

    monkeypatch.setattr(kill, "process_start", start_of)
    assert kill_session_leftovers([DeadWorker(ProcessId(1 << 30, 0), f"{TOKEN}.3\0")]) == 1
    assert left.wait() == -signal.SIGKILL
    assert hidden.poll() is None


def test_a_worker_whose_pid_is_somebody_elses_by_now_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def start_of(pid: int) -> int | None:
        raise PermissionError(errno.EACCES, "hidepid=1")

    worker = process_id()
    monkeypatch.setattr(kill, "process_start", start_of)
    assert not kill.is_running(worker)
    assert not kill_process(worker)
    kill_tree(worker)  # a rescuer that met an error here never took over what the worker's supervisor had
    assert kill_session_leftovers([DeadWorker(worker, "")]) == 0


def test_one_that_may_not_be_killed_does_not_keep_the_rest_alive(
    spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = spawn("marked")
    real, refused = signal.pidfd_send_signal, list[int]()

    def send(pidfd: int, number: int) -> None:
        if not refused:  # the worker itself comes first: as if it were `sudo`
            refused.append(pidfd)
            raise PermissionError(errno.EPERM, "not permitted")
        real(pidfd, number)

    monkeypatch.setattr(kill.signal, "pidfd_send_signal", send)
    monkeypatch.setattr(kill.os, "killpg", lambda *_: None)
    kill_tree(process_id(worker.pid))
    until(lambda: not lives(pid_in(tmp_path / "marked")))


@pytest.mark.parametrize("end", [kill_process, kill_tree])
def test_a_pid_with_another_start_time_is_a_stranger(spawn: Spawn, end: Callable[[ProcessId], object]) -> None:
    stranger = spawn()
    real = process_id(stranger.pid)
    end(ProcessId(real.pid, real.start + 1))
    end(ProcessId(real.pid, real.start - 1))
    assert stranger.poll() is None
    assert kill_process(real)
    assert stranger.wait() == -signal.SIGKILL


def test_a_strangers_tree_is_left_alone(spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = spawn("child", "cleared")
    real = process_id(stranger.pid)
    sent: list[object] = []
    monkeypatch.setattr(kill.signal, "pidfd_send_signal", lambda *what: sent.append(what))
    monkeypatch.setattr(kill.os, "killpg", lambda *what: sent.append(what))
    kill_tree(ProcessId(real.pid, real.start + 1))
    assert sent == []
    kill_tree(real)
    assert len(sent) == 4  # the group, itself, two children


def test_killing_what_is_gone_says_so(spawn: Spawn) -> None:
    worker = spawn()
    identity = process_id(worker.pid)
    assert kill_process(identity)
    until(lambda: not lives(worker.pid))
    assert not kill_process(identity)
    _ended(worker)
    assert not kill_process(identity)
    kill_tree(identity)


_STRAYS = """
import os, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from mpdispatch.host.kill import reap_orphans
from mpdispatch.host.linux import become_subreaper
from tests.host import tree
from tests.pool.probes import lives, pid_in, until, zombies
become_subreaper()
folder = sys.argv[2]
kept = subprocess.Popen(tree._LASTING)
tree.leave_behind(folder, ["daemon", "child", "cleared"])
strays = [pid_in(Path(folder) / name) for name in ("daemon", "child", "cleared")]
print(reap_orphans([kept.pid]))
until(lambda: not reap_orphans([kept.pid]) and not any(map(lives, strays)) and not zombies())
print(kept.poll())
kept.kill(); kept.wait()
"""


def test_a_subreaper_ends_and_reaps_all_children_but_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _STRAYS, ROOT, tmp_path],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout.split() == ["3", "None"], done.stderr


def test_a_zombie_is_no_process(spawn: Spawn) -> None:
    worker = spawn()
    worker.kill()
    until(lambda: state_of(worker.pid) == "Z")
    assert process_start(worker.pid) is None

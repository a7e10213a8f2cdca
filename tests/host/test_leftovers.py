"""What a dead supervisor left is ended where it is surely its own: by its token, its journal, and nobody's word."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mpdispatch.host.kill import WORKER_VARIABLE, DeadWorker, kill_session_leftovers
from mpdispatch.host.leftovers import JournalNames, kill_leftovers
from mpdispatch.host.processes import ProcessId, process_id
from tests.host.conftest import TOKEN, Spawn
from tests.pool.probes import lives, pid_in, until

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
Sleeper = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    """Starts a process that sleeps: with this environment, as this user."""
    started: list[subprocess.Popen[bytes]] = []

    def start(environment: dict[str, str] | None = None, *, user: int | None = None) -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen(["/bin/sleep", "1000"], env=environment or {}, user=user, start_new_session=True)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def _journal(path: Path, *workers: ProcessId) -> JournalNames:
    path.touch()
    found = path.stat()
    return JournalNames(frozenset(workers), (found.st_dev, found.st_ino))


_MAPPED = """
import mmap, os, signal, sys
file = open(sys.argv[1], "r+b")
held = mmap.mmap(file.fileno(), 0)
if len(sys.argv) > 2:
    os.setuid(int(sys.argv[2]))
print("mapped", flush=True)
while True:
    signal.pause()
"""


def _mapping(path: Path, *user: str) -> subprocess.Popen[bytes]:
    """A process with no environment that has this file mapped, once it has, and has then become this user."""
    path.write_bytes(b"x" * 4096)
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", _MAPPED, path, *user],
        env={},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"mapped\n"
    process.stdout.close()
    return process


def test_what_carries_a_token_is_killed_with_its_family_unless_it_is_older(
    spawn: Spawn, tmp_path: Path
) -> None:
    mine = spawn("marked", "cleared", tag=f"{TOKEN}.1", folder=tmp_path / "a")
    alien = spawn("cleared", tag=f"{TOKEN}2.1", folder=tmp_path / "b")
    start = process_id(mine.pid).start
    assert kill_leftovers(TOKEN, since=start + 1000, journal=None) == 0
    assert kill_leftovers(TOKEN, since=start, journal=None) == 3
    assert mine.wait() == -signal.SIGKILL
    for kind in ("marked", "cleared"):
        until(lambda kind=kind: not lives(pid_in(tmp_path / "a" / kind)))
    assert kill_leftovers(TOKEN, since=start, journal=None) == 0
    assert lives(alien.pid)
    assert lives(pid_in(tmp_path / "b" / "cleared"))


@as_root
def test_a_process_of_another_user_that_carries_the_token_is_left_alone(sleeper: Sleeper) -> None:
    token = secrets.token_hex(16)
    theirs = sleeper({WORKER_VARIABLE: f"{token}.1"}, user=NOBODY)
    assert kill_leftovers(token, since=0, journal=None) == 0
    assert kill_session_leftovers([DeadWorker(ProcessId(1 << 30, 0), f"{token}.1\0")]) == 0
    assert theirs.poll() is None


@as_root
def test_a_child_of_a_worker_that_has_dropped_its_privileges_is_killed(spawn: Spawn, tmp_path: Path) -> None:
    worker = spawn("discarded", tag=f"{TOKEN}.1")
    assert kill_leftovers(TOKEN, since=0, journal=None) == 2
    assert worker.wait() == -signal.SIGKILL
    until(lambda: not lives(pid_in(tmp_path / "discarded")))


def test_nobody_is_killed_on_a_journals_word_alone(sleeper: Sleeper, tmp_path: Path) -> None:
    # Whoever can write it names a process of his choice.
    victim = sleeper()
    journal = _journal(tmp_path / "journal.1", process_id(victim.pid))
    assert kill_leftovers(TOKEN, since=0, journal=journal) == 0
    assert victim.poll() is None


def test_a_worker_that_has_overwritten_its_environment_is_known_by_its_journal(tmp_path: Path) -> None:
    worker, other = _mapping(tmp_path / "journal.1"), _mapping(tmp_path / "journal.2")
    try:
        journal = _journal(tmp_path / "journal.1", process_id(worker.pid), process_id(other.pid))
        assert kill_leftovers(TOKEN, since=0, journal=journal) == 1
        assert worker.wait() == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for process in (worker, other):
            process.kill()
            process.wait()


@as_root
def test_a_worker_that_has_dropped_its_privileges_is_known_by_its_journal(tmp_path: Path) -> None:
    worker = _mapping(tmp_path / "journal.1", str(NOBODY))
    try:
        journal = _journal(tmp_path / "journal.1", process_id(worker.pid))
        assert kill_leftovers(TOKEN, since=0, journal=journal) == 1
        assert worker.wait() == -signal.SIGKILL
    finally:
        worker.kill()
        worker.wait()


def test_who_has_the_journal_mapped_and_is_no_worker_is_left_alone(tmp_path: Path) -> None:
    # The supervisor itself, stopped.
    supervisor = _mapping(tmp_path / "journal.1")
    try:
        assert kill_leftovers(TOKEN, since=0, journal=_journal(tmp_path / "journal.1")) == 0
        assert supervisor.poll() is None
    finally:
        supervisor.kill()
        supervisor.wait()


def test_the_session_of_a_worker_that_is_gone_is_ended(spawn: Spawn, tmp_path: Path) -> None:
    worker = spawn("cleared", tag="another.1")
    journal = _journal(tmp_path / "journal.1", process_id(worker.pid))
    worker.kill()
    worker.wait()
    assert kill_leftovers(TOKEN, since=0, journal=journal) == 1
    until(lambda: not lives(pid_in(tmp_path / "cleared")))

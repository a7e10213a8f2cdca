"""The write lock goes round."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpdispatch.store.sqlite.lock import _MOST_IN_A_ROW, FileLock
from tests.pool.probes import until


@pytest.fixture
def locks(tmp_path: Path) -> Iterator[tuple[FileLock, FileLock]]:
    made = FileLock(tmp_path / "side", queue=True), FileLock(tmp_path / "side", queue=True)
    yield made
    for each in made:
        each.close()


def _soon() -> float:
    return time.monotonic() + 10


def _is_taken(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def test_whoever_waits_has_it_after_a_few_turns_of_one_that_takes_it_again_and_again(
    locks: tuple[FileLock, FileLock], tmp_path: Path
) -> None:
    greedy, patient = locks
    assert greedy.acquire(_soon())
    has_it = threading.Event()

    def wait() -> None:
        assert patient.acquire(_soon())
        has_it.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    until(lambda: _is_taken(tmp_path / "side" / "queue"), what="the waiter to be next")
    greedy.release()
    turns = 0
    while not has_it.is_set() and greedy.acquire(time.monotonic()):
        turns += 1
        greedy.release()
    waiter.join()
    assert turns <= _MOST_IN_A_ROW
    patient.release()


def test_it_is_never_held_twice_also_if_the_folder_is_removed(
    locks: tuple[FileLock, FileLock], tmp_path: Path
) -> None:
    first, second = locks
    assert first.acquire(_soon())
    first.release()
    shutil.rmtree(tmp_path / "side")
    assert second.acquire(_soon())
    assert not first.acquire(time.monotonic()), "its old file is nobody's lock any more"
    second.release()
    assert first.acquire(_soon())
    assert not second.acquire(time.monotonic())
    first.release()


@pytest.mark.parametrize("name", ["lock", "queue"])
def test_an_interrupt_that_comes_with_the_lock_does_not_keep_it(
    locks: tuple[FileLock, FileLock], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    ours, _ = locks
    assert ours.acquire(_soon())
    ours.release()
    wanted = ours._fd if name == "lock" else ours._turnstile_fd
    ours._in_a_row = _MOST_IN_A_ROW  # through the turnstile
    real = fcntl.flock

    def interrupted(fd: int, operation: int) -> None:
        real(fd, operation)
        if fd == wanted and operation != fcntl.LOCK_UN:
            raise KeyboardInterrupt

    monkeypatch.setattr(fcntl, "flock", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ours.acquire(_soon())
    monkeypatch.undo()
    assert not _is_taken(tmp_path / "side" / "lock")
    assert not _is_taken(tmp_path / "side" / "queue")


ENDS = """
import sys
from mpdispatch import Engine
engine = Engine.open(sys.argv[1])
@engine.job
def a(): pass
a.enqueue()
print("enqueued", flush=True)
sys.stdin.readline()
"""


def test_a_process_ends_without_a_word_while_another_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with subprocess.Popen(
        [sys.executable, "-c", ENDS, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "enqueued\n"
        holder = FileLock(tmp_path / "jobs.db-mpd")
        assert holder.acquire(_soon())
        _, complaints = process.communicate("\n", timeout=30)
        holder.close()
    assert (process.returncode, complaints) == (0, "")

"""A store that is busy, full or held by a stopped process."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mpdispatch.errors import StoreBusy, StoreFull
from mpdispatch.host.processes import process_state
from mpdispatch.store import SQLiteStore
from mpdispatch.store.sqlite.holder import holder_of
from mpdispatch.supervisor.store_backoff import StoreBackoff
from tests.pool.probes import until

SECOND = 1_000_000

HOLD = """
import fcntl, os, signal, sys
held = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(held, fcntl.LOCK_EX)
if len(sys.argv) > 2:
    os.setuid(int(sys.argv[2]))
print("held", flush=True)
signal.pause()
"""


@pytest.fixture
def store(tmp_path: Path) -> SQLiteStore:
    store = SQLiteStore(tmp_path / "jobs.db")
    store.migrate()
    return store


@pytest.fixture
def holder(store: SQLiteStore, tmp_path: Path):
    lock = tmp_path / "jobs.db-mpd" / "lock"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_kernel_names_the_holder_of_the_write_lock(
    store: SQLiteStore, holder: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert store.supervisor_store().file_care.blocker() == holder.pid
    assert holder_of(tmp_path / "jobs.db") is None
    assert holder_of(tmp_path / "no such file") is None


def test_a_stopped_process_that_holds_the_write_lock_is_killed(
    store: SQLiteStore, holder: subprocess.Popen[bytes]
) -> None:
    backoff = StoreBackoff(store.supervisor_store(), logging.getLogger("tests"))
    os.kill(holder.pid, signal.SIGSTOP)
    until(lambda: process_state(holder.pid) == "T")
    backoff.failed(StoreBusy("jobs.db"), 1 * SECOND)
    backoff.failed(StoreBusy("jobs.db"), 5 * SECOND)
    assert process_state(holder.pid) == "T", "it has five seconds"
    backoff.failed(StoreBusy("jobs.db"), 6 * SECOND)
    assert holder.wait(timeout=5) == -signal.SIGKILL


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_a_stopped_process_of_another_user_is_left_alone(store: SQLiteStore, tmp_path: Path) -> None:
    lock = tmp_path / "jobs.db-mpd" / "lock"
    theirs = subprocess.Popen([sys.executable, "-c", HOLD, lock, "65534"], stdout=subprocess.PIPE)
    assert theirs.stdout is not None
    assert theirs.stdout.readline() == b"held\n"
    backoff = StoreBackoff(store.supervisor_store(), logging.getLogger("tests"))
    os.kill(theirs.pid, signal.SIGSTOP)
    until(lambda: process_state(theirs.pid) == "T")
    for second in (1, 6, 12):
        backoff.failed(StoreBusy("jobs.db"), second * SECOND)
    assert process_state(theirs.pid) == "T"
    theirs.kill()
    theirs.wait()
    theirs.stdout.close()


def test_a_running_holder_is_left_alone(store: SQLiteStore, holder: subprocess.Popen[bytes]) -> None:
    backoff = StoreBackoff(store.supervisor_store(), logging.getLogger("tests"))
    for second in range(1, 20):
        backoff.failed(StoreBusy("jobs.db"), second * SECOND)
    assert holder.poll() is None


def test_trouble_is_said_once_and_its_end_too(store: SQLiteStore, caplog: pytest.LogCaptureFixture) -> None:
    backoff = StoreBackoff(store.supervisor_store(), logging.getLogger("tests"))
    for tenth in range(1, 50):
        backoff.failed(StoreFull("jobs.db"), tenth * SECOND // 10)
    backoff.succeeded()
    backoff.succeeded()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_trouble_that_comes_and_goes_is_said_once(store: SQLiteStore, caplog: pytest.LogCaptureFixture) -> None:
    backoff = StoreBackoff(store.supervisor_store(), logging.getLogger("tests"))
    for half in range(1, 50):
        backoff.failed(StoreFull(f"jobs.db-mpd/journal.{half}"), half * SECOND // 2)
        backoff.succeeded()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_another_trouble_is_said_at_once(store: SQLiteStore, caplog: pytest.LogCaptureFixture) -> None:
    backoff = StoreBackoff(store.supervisor_store(), logging.getLogger("tests"))
    for minute in range(1, 3):
        backoff.failed(StoreFull("jobs.db"), minute * 10 * SECOND)
        backoff.succeeded()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"] * 2

"""Many processes and threads on one file: locks, forks, the write-ahead log, and how it all ends."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TypeVar

import pytest

from mpdispatch.clock import Instant
from mpdispatch.errors import StoreBusy, StorePermission
from mpdispatch.model import AlikeJobs, Job, JobState, NewJob
from mpdispatch.private import folder_beside
from mpdispatch.store import SQLiteStore
from mpdispatch.store.sql import inserts
from mpdispatch.store.sqlite import forks
from mpdispatch.store.sqlite.lock import _MOST_IN_A_ROW, FileLock
from mpdispatch.store.sqlite.wal import CHECKPOINT_BYTES
from tests.clock import FakeClock

from .conftest import Desk, completed

T = TypeVar("T")
JOB = NewJob(name="a", payload=b"{}")
SPAWN = multiprocessing.get_context("spawn")


def _migrate_and_enqueue(path: str, start: Barrier, jobs: int) -> None:
    store = SQLiteStore(path)
    start.wait(60)
    store.migrate()
    for _ in range(jobs):
        store.enqueue(JOB)
    store.close()


def test_eight_processes_migrate_and_enqueue_at_once(path: Path) -> None:
    start = SPAWN.Barrier(8)
    processes = [SPAWN.Process(target=_migrate_and_enqueue, args=(str(path), start, 25)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 8
    store = SQLiteStore(path)
    assert store.counts()[JobState.PENDING] == 200
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        steps = connection.execute("SELECT name FROM mpdispatch_migrations ORDER BY id").fetchall()
        assert steps == [("v3_strict",), ("v4_time",), ("v5_batches",)], "each once"
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_threads_share_a_store_object(file_store: SQLiteStore) -> None:
    ids: list[int] = []

    def work() -> None:
        ids.extend(file_store.enqueue(JOB).id for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ids) == list(range(1, 121))


def _patiently(turn: Callable[[], T]) -> T:
    """A supervisor is told "busy" within 50 ms, and asks again."""
    while True:
        with suppress(StoreBusy):
            return turn()


def test_threads_share_an_in_memory_store(clock: FakeClock) -> None:
    store = SQLiteStore(":memory:", clock=clock)
    desk = Desk(store, clock)

    def work() -> None:
        for _ in range(50):
            store.enqueue(JOB)
            store.counts()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    done = 0
    while done < 200:
        claimed = _patiently(lambda: desk.claim(10))
        outcomes = [completed(job, clock.now()) for job in claimed]
        assert _patiently(partial(desk.commit, *outcomes)).rejected in ([], ())
        done += len(claimed)
    for thread in threads:
        thread.join()
    assert store.counts()[JobState.COMPLETED] == 200
    desk.close()


def test_the_connection_of_a_thread_ends_with_it(file_store: SQLiteStore) -> None:
    before = set(forks.remembered())
    thread = threading.Thread(target=file_store.counts)
    thread.start()
    thread.join()
    assert set(forks.remembered()) == before


def test_the_connections_of_all_threads_can_be_closed_and_open_again_when_they_are_used(
    file_store: SQLiteStore,
) -> None:
    file_store.close()
    before = set(forks.remembered())
    used, closed, counts = threading.Event(), threading.Event(), list[int]()

    def look() -> None:
        file_store.enqueue(JOB)
        used.set()
        closed.wait(20)
        counts.append(file_store.counts()[JobState.PENDING])

    thread = threading.Thread(target=look)
    thread.start()
    used.wait(20)
    file_store.enqueue(JOB)
    log = Path(f"{file_store.location}-wal")
    assert log.exists()
    file_store.close_all()
    assert set(forks.remembered()) == before
    assert not log.exists(), "the last one has brought it into the file"
    closed.set()
    thread.join()
    assert counts == [2]
    assert file_store.counts()[JobState.PENDING] == 2


def test_a_connection_that_stays_in_use_stays_open(
    file_store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpdispatch.store.sqlite.thread_sessions._PATIENCE_S", 0.01)
    file_store.enqueue(JOB)
    session = file_store._sessions.current()
    in_use, done = threading.Event(), threading.Event()

    def use() -> None:
        file_store._sessions.current().read(lambda _: (in_use.set(), done.wait(20)))

    thread = threading.Thread(target=use)
    thread.start()
    in_use.wait(20)
    file_store.close_all()
    assert session.is_closed
    assert sum(not each.is_closed for each in file_store._sessions.opened()) == 1
    done.set()
    thread.join()


def test_closing_all_waits_once_for_those_in_use_and_only_where_a_fork_waits_for_it(
    file_store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, closes_in_turn = list[float](), list[bool]()

    class InUse:
        @property
        def use(self) -> InUse:
            return self

        def is_used_here(self) -> bool:
            return False

        def acquire(self, *, timeout: float) -> bool:
            # A fork takes `opening`, then `use`: in the other order it gives up, and its child cannot use the store.
            closes_in_turn.append(threading.get_ident() in forks.gate._inside)
            waits.append(timeout)
            time.sleep(timeout)
            return False

    monkeypatch.setattr("mpdispatch.store.sqlite.thread_sessions._PATIENCE_S", 0.05)
    monkeypatch.setattr(file_store._sessions, "opened", lambda: [InUse() for _ in range(5)])
    file_store.close_all()
    assert closes_in_turn == [True] * 5
    assert 0 < sum(waits) <= 0.05


@pytest.mark.parametrize("close", ["close", "close_all"])
def test_a_signal_handler_that_closes_the_store_in_the_middle_of_an_enqueue_leaves_it_be(
    file_store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, close: str
) -> None:
    def strikes(connection: sqlite3.Connection, job: NewJob, at: Instant) -> Job:
        made = insert(connection, job, at)
        signal.raise_signal(signal.SIGUSR1)
        return made

    insert = inserts.insert
    file_store.enqueue(JOB)
    monkeypatch.setattr(inserts, "insert", strikes)
    before = signal.signal(signal.SIGUSR1, lambda *_: getattr(file_store, close)())
    try:
        assert file_store.enqueue(JOB).id == 2
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert file_store.counts()[JobState.PENDING] == 2
    getattr(file_store, close)()
    assert not Path(f"{file_store.location}-wal").exists()


# ---------------------------------------------------------------- waiting


def test_a_client_waits_for_a_foreign_writer(file_store: SQLiteStore) -> None:
    foreign = sqlite3.connect(file_store.location, isolation_level=None, check_same_thread=False)
    foreign.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.4, foreign.execute, ["COMMIT"])
    timer.start()
    began = time.monotonic()
    file_store.enqueue(JOB)
    assert time.monotonic() - began >= 0.3
    timer.join()
    foreign.close()


def test_a_client_gives_up_after_its_patience(
    file_store: SQLiteStore, path: Path, now: Instant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_store._sessions.current(), "_patience_s", 0.1)
    lock = FileLock(folder_beside(path))
    assert lock.acquire(0.0)
    with pytest.raises(StoreBusy):
        file_store.enqueue(JOB)
    assert file_store.counts()[JobState.PENDING] == 0, "readers wait for no lock of ours"
    lock.release()
    lock.close()
    file_store.enqueue(JOB)


def test_a_supervisor_says_busy_within_50_ms(file_store: SQLiteStore, clock: FakeClock) -> None:
    desk = Desk(file_store, clock)
    file_store.enqueue(JOB)
    with closing(sqlite3.connect(file_store.location, isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        waits = []
        for _ in range(5):
            began = time.monotonic()
            with pytest.raises(StoreBusy):
                desk.claim()
            waits.append(time.monotonic() - began)
        foreign.execute("ROLLBACK")
    # The shortest: a busy machine may hold up any one of them.
    assert min(waits) < 0.05
    desk.close()


def test_an_idle_turn_takes_no_write_lock(file_store: SQLiteStore, path: Path, clock: FakeClock) -> None:
    desk = Desk(file_store, clock)
    file_store.enqueue(NewJob(name="a", payload=b"{}", queue="other"))
    lock = FileLock(folder_beside(path))
    assert lock.acquire(0.0)
    assert desk.commit(slots=9).claimed == ()
    lock.release()
    lock.close()
    desk.close()


def test_a_stopped_process_at_the_turnstile_does_not_stop_the_others(
    file_store: SQLiteStore, path: Path, now: Instant
) -> None:
    file_store.enqueue(JOB)
    turnstile = FileLock(folder_beside(path), queue=True)
    turnstile._open()
    fcntl.flock(turnstile._turnstile_fd, fcntl.LOCK_EX)
    began = time.monotonic()
    for _ in range(_MOST_IN_A_ROW + 1):  # the others pass it by
        file_store.enqueue(JOB)
    assert 0.1 <= time.monotonic() - began < 5
    turnstile.close()


def test_whoever_waits_gets_its_turn_beside_one_that_never_rests(path: Path) -> None:
    busy, patient = SQLiteStore(path, durability="process"), SQLiteStore(path, durability="process")
    busy.migrate()
    stop = threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            busy.enqueue(JOB)
        busy.close()

    thread = threading.Thread(target=hammer)
    thread.start()
    for _ in range(200):
        patient.enqueue(JOB)
    stop.set()
    thread.join()
    patient.close()


# ---------------------------------------------------------------- forks and ends


def test_a_forked_child_opens_its_own_connection(file_store: SQLiteStore) -> None:
    file_store.enqueue(JOB)
    if (child := os.fork()) == 0:
        try:
            file_store.enqueue(JOB)
            file_store.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    file_store.enqueue(JOB)
    assert file_store.counts()[JobState.PENDING] == 3


def test_a_child_that_keeps_our_descriptor_does_not_keep_our_lock(file_store: SQLiteStore, path: Path) -> None:
    folder = folder_beside(path)
    ready, tell = os.pipe()
    if (holder := os.fork()) == 0:
        lock = FileLock(folder)
        assert lock.acquire(0.0)
        if (grandchild := os.fork()) == 0:
            signal.pause()
        os.write(tell, grandchild.to_bytes(4, "big"))
        signal.pause()
    grandchild = int.from_bytes(os.read(ready, 4), "big")
    try:
        lock = FileLock(folder)
        assert not lock.acquire(0.0)
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        assert lock.acquire(time.monotonic() + 5)
        lock.close()
    finally:
        os.kill(grandchild, signal.SIGKILL)
        os.close(ready)
        os.close(tell)


END_CODE = """
import os, sys, threading
from mpdispatch.clock import SystemClock
from mpdispatch.host.runtime_folder import runtime_folder
from mpdispatch.model import NewJob
from mpdispatch.store import SQLiteStore
store = SQLiteStore(sys.argv[1])
job = NewJob(name="a", payload=b"{}")
store.enqueue(job)
thread = threading.Thread(target=lambda: store.enqueue(job))
thread.start()
thread.join()
memory = SQLiteStore(":memory:")
memory.enqueue(job)
runtime_folder(memory)
if sys.argv[2] == "fork":
    if os.fork() == 0:
        store.enqueue(job)
        sys.exit(0)
    os.wait()
    store.enqueue(job)
    assert runtime_folder(memory).is_dir()
"""


@pytest.mark.parametrize("kind", ["plain", "fork"])
def test_a_program_that_closes_nothing_ends_in_silence(path: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "tmp").mkdir()
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", END_CODE, str(path), kind],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert list((tmp_path / "tmp").iterdir()) == [], "the folder of the in-memory store is gone"
    store = SQLiteStore(path)
    assert store.counts()[JobState.PENDING] == (2 if kind == "plain" else 4)
    store.close()


# ---------------------------------------------------------------- the write-ahead log


def _wal_bytes(path: Path) -> int:
    return os.stat(f"{path}-wal").st_size


@pytest.mark.parametrize("durability", ["full", "process"])
def test_the_log_starts_over_under_clients(path: Path, durability: str) -> None:
    store = SQLiteStore(path, durability=durability)
    payload = b'{"x":"' + b"x" * 500_000 + b'"}'
    largest = 0
    for _ in range(120):
        store.enqueue(NewJob(name="a", payload=payload))
        largest = max(largest, _wal_bytes(path))
    assert largest < 2 * CHECKPOINT_BYTES
    assert path.stat().st_size > 40_000_000
    store.close()


def test_the_log_starts_over_under_a_supervisor(path: Path, clock: FakeClock) -> None:
    store = SQLiteStore(path, durability="process", clock=clock)
    store.migrate()
    desk = Desk(store, clock)
    largest = 0
    for _ in range(30):
        store.enqueue_many(AlikeJobs(NewJob(name="a", payload=b""), [b'{"x":"' + b"x" * 900 + b'"}'] * 1000))
        claimed = desk.claim(1000)
        desk.commit(*[completed(job, clock.now()) for job in claimed])
        desk.supervisor_store.file_care.checkpoint_if_large()
        largest = max(largest, _wal_bytes(path))
    assert largest < 2 * CHECKPOINT_BYTES
    desk.close()
    store.close()


def test_a_long_reader_holds_nobody_up_and_the_log_recovers(path: Path) -> None:
    store = SQLiteStore(path, durability="process")
    store.enqueue(JOB)
    payload = b'{"x":"' + b"x" * 1_000_000 + b'"}'
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM mpdispatch_jobs").fetchone()
        for _ in range(40):
            store.enqueue(NewJob(name="a", payload=payload))
        assert _wal_bytes(path) > 4 * CHECKPOINT_BYTES
        reader.execute("COMMIT")
        for _ in range(12):
            store.enqueue(NewJob(name="a", payload=payload))
    assert _wal_bytes(path) < 2 * CHECKPOINT_BYTES
    store.close()


def test_a_checkpoint_waits_for_no_lock(path: Path, clock: FakeClock) -> None:
    store = SQLiteStore(path, durability="process", clock=clock)
    store.migrate()
    desk = Desk(store, clock)
    lock = FileLock(folder_beside(path))
    with closing(sqlite3.connect(path, isolation_level=None)) as foreign:
        # The WAL grows without anybody of ours who could checkpoint it.
        foreign.execute("PRAGMA wal_autocheckpoint = 0")
        foreign.execute("INSERT INTO mpdispatch_payloads VALUES (10, zeroblob(9000000))")
    assert lock.acquire(0.0)
    desk.supervisor_store.file_care.checkpoint_if_large()
    lock.release()
    lock.close()
    before = path.stat().st_size
    desk.supervisor_store.file_care.checkpoint_if_large()
    assert path.stat().st_size > before
    desk.close()
    store.close()


def test_nothing_but_the_store_itself_stands_beside_it(path: Path) -> None:
    store = SQLiteStore(path)
    store.enqueue(JOB)
    desk = Desk(store, FakeClock())
    desk.supervisor_store.unregister(desk.owner)
    desk.close()
    store.close()
    assert sorted(each.name for each in path.parent.iterdir()) == ["jobs.db", "jobs.db-mpd"]
    assert sorted(each.name for each in Path(f"{path}-mpd").iterdir()) == ["lock", "queue"]


def test_a_lock_folder_somebody_deleted_is_made_again(path: Path) -> None:
    store = SQLiteStore(path)
    store.enqueue(JOB)
    (Path(f"{path}-mpd") / "lock").unlink()
    store.enqueue(JOB)
    with open(Path(f"{path}-mpd") / "lock") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(theirs, fcntl.LOCK_UN)
    store.close()


def test_a_lock_file_that_is_a_symlink_is_not_followed(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    Path(f"{path}-mpd").mkdir()
    (Path(f"{path}-mpd") / "lock").symlink_to(target)
    with pytest.raises(StorePermission, match="lock file"):
        SQLiteStore(path).enqueue(JOB)
    assert not target.exists()

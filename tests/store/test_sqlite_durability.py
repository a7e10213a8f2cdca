"""Which commits wait for the disk."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mpdispatch import sqlite3
from mpdispatch.errors import StoreIOError, UsageError
from mpdispatch.model import AlikeJobs, NewJob
from mpdispatch.store import SQLiteStore
from mpdispatch.store.sql.sessions import Flush
from mpdispatch.store.sqlite import wal
from mpdispatch.store.sqlite.connection import Session
from mpdispatch.store.sqlite.lock import FileLock
from mpdispatch.store.sqlite.wal import Log, _begin_writing
from tests.clock import FakeClock

from .conftest import Desk, completed

FULL, NORMAL = 2, 1


@pytest.fixture
def levels(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(point, `synchronous`) of each transaction as it was about to commit."""
    found: list[tuple[str, int]] = []
    real = Session._transaction

    def transaction(session: Session, work: Callable[[sqlite3.Connection], object], point: str) -> object:
        def watched(connection: sqlite3.Connection) -> object:
            result = work(connection)
            found.append((point, connection.execute("PRAGMA synchronous").fetchone()[0]))
            return result

        return real(session, watched, point)

    monkeypatch.setattr(Session, "_transaction", transaction)
    return found


def _three_jobs(store: SQLiteStore, clock: FakeClock) -> None:
    store.migrate()
    desk = Desk(store, clock)
    for _ in range(3):
        store.enqueue_many(AlikeJobs(NewJob(name="a", payload=b""), [b"{}"]))
        (job,) = desk.claim()
        desk.commit(completed(job, clock.now()))
    desk.close()
    store.close()


def test_all_commits_wait_for_the_disk_but_those_of_a_claim_and_of_new_jobs(
    path: Path, clock: FakeClock, levels: list[tuple[str, int]]
) -> None:
    _three_jobs(SQLiteStore(path, clock=clock), clock)
    turns = [level for point, level in levels if point == "commit"]
    assert turns == [NORMAL, FULL] * 3
    assert [level for point, level in levels if point == "enqueue"] == [NORMAL] * 3
    assert {level for point, level in levels if point not in ("commit", "enqueue")} == {FULL}


def test_with_durability_process_none_waits(
    path: Path, clock: FakeClock, levels: list[tuple[str, int]]
) -> None:
    _three_jobs(SQLiteStore(path, durability="process", clock=clock), clock)
    assert {level for _, level in levels} == {NORMAL}


def test_an_interrupt_while_the_fsync_is_switched_off_leaves_no_commit_without_it(
    path: Path, clock: FakeClock, levels: list[tuple[str, int]]
) -> None:
    store = SQLiteStore(path, clock=clock)
    store.migrate()
    session = store._sessions.current()
    real = session.connection

    class Interrupted:
        in_transaction = False

        def execute(self, statement: str) -> None:
            real.execute(statement)
            raise KeyboardInterrupt

    session.connection = Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        session.write(lambda c: None, point="unsynced", flush=Flush.LATER)
    session.connection = real
    session.write(lambda c: None, point="synced")
    assert levels[-1] == ("synced", FULL)
    store.close()


ONE = NewJob(name="a", payload=b"{}")
KEYED = NewJob(name="a", payload=b"{}", idempotency_key="k")
LARGE = NewJob(name="a", payload=b'"' + b"x" * 100_000 + b'"')

WAYS_IN: dict[str, Callable[[SQLiteStore, FakeClock], object]] = {
    "one": lambda store, clock: store.enqueue(ONE),
    "keyed": lambda store, clock: store.enqueue(KEYED),
    "large": lambda store, clock: store.enqueue(LARGE),
    "many": lambda store, clock: store.enqueue_many(AlikeJobs(ONE, [b"{}"] * 3)),
}


@pytest.fixture
def flushes(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """(jobs that others could see, whether another could write) when each flush was begun."""
    found: list[tuple[int, bool]] = []
    real = Log.flush

    def flush(log: Log) -> None:
        with closing(sqlite3.connect(path)) as other:
            seen = other.execute("SELECT count(*) FROM mpdispatch_jobs").fetchone()[0]
        lock = FileLock(Path(f"{path}-mpd"))
        is_free = lock.acquire(0.0)
        lock.close()
        found.append((seen, is_free))
        real(log)

    monkeypatch.setattr(Log, "flush", flush)
    return found


@pytest.mark.parametrize("way", WAYS_IN)
def test_a_new_job_is_flushed_before_enqueue_returns_and_after_the_lock_is_let_go(
    path: Path, clock: FakeClock, flushes: list[tuple[int, bool]], way: str
) -> None:
    store = SQLiteStore(path, clock=clock)
    store.migrate()
    WAYS_IN[way](store, clock)
    assert flushes == [(3 if way == "many" else 1, True)]
    store.close()


def test_who_is_told_of_another_s_job_by_its_key_may_rely_on_it_too(
    path: Path, clock: FakeClock, flushes: list[tuple[int, bool]]
) -> None:
    store = SQLiteStore(path, clock=clock)
    assert store.enqueue(KEYED).created
    assert not store.enqueue(KEYED).created  # the other may still be waiting for the disk
    assert len(flushes) == 2
    store.close()


@pytest.mark.parametrize("way", WAYS_IN)
def test_with_durability_process_a_new_job_is_not_flushed(
    path: Path, clock: FakeClock, flushes: list[tuple[int, bool]], way: str
) -> None:
    store = SQLiteStore(path, durability="process", clock=clock)
    WAYS_IN[way](store, clock)
    assert flushes == []
    store.close()


@pytest.mark.parametrize("way", WAYS_IN)
def test_what_could_not_be_flushed_is_not_acknowledged(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    store = SQLiteStore(path, clock=clock)
    store.migrate()
    before = store._sessions.current()

    def fail(log: Log) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Log, "flush", fail)
    with pytest.raises(StoreIOError, match="cannot flush"):
        WAYS_IN[way](store, clock)
    monkeypatch.undo()
    WAYS_IN[way](store, clock)
    assert store._sessions.current() is not before, "what is on disk is not known, so it is opened anew"
    store.close()


@pytest.mark.parametrize("way", WAYS_IN)
def test_nothing_is_stored_where_no_descriptor_is_left_to_flush_it_with(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    store = SQLiteStore(path, clock=clock)
    store.migrate()
    real = os.open

    def full(name: str, *args: int, **kwargs: int) -> int:
        if str(name).endswith("-wal"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(name, *args, **kwargs)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(StoreIOError, match="Too many open files"):
        WAYS_IN[way](store, clock)
    monkeypatch.undo()
    assert sum(store.counts().values()) == 0, "who is told of an error tries again, and would have it twice"
    WAYS_IN[way](store, clock)
    store.close()


@pytest.fixture
def log(path: Path) -> Iterator[Log]:
    """The log at this path, of a connection that never looks at it."""
    with closing(sqlite3.connect(":memory:")) as connection, closing(Log(connection, path)) as found:
        yield found


def test_a_log_that_is_not_there_is_not_taken_for_flushed(log: Log) -> None:
    with pytest.raises(FileNotFoundError):
        log.flush()


def test_supervisors_are_told_of_a_new_job_before_the_disk_is_waited_for(
    path: Path, clock: FakeClock, flushes: list[tuple[int, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SQLiteStore(path, clock=clock)
    store.migrate()
    told: list[int] = []
    monkeypatch.setattr(store, "wake", lambda: told.append(len(flushes)))
    for way in WAYS_IN.values():
        way(store, clock)
    assert told == [0, 1, 2, 3]
    store.close()


def test_who_is_told_by_its_key_in_a_transaction_of_his_own_may_rely_on_it_too(
    path: Path, clock: FakeClock, flushes: list[tuple[int, bool]]
) -> None:
    store = SQLiteStore(path, shared=True, clock=clock)
    store.enqueue(KEYED)
    with closing(sqlite3.connect(path)) as mine, mine:
        assert not store.enqueue(KEYED, connection=mine).created
    assert len(flushes) == 2, "that commit writes nothing, so it does not wait for the disk"
    store.close()


def test_where_fsync_does_not_reach_the_platter_the_log_is_flushed_by_what_does(
    path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(wal, "_FULL_FSYNC", 51)  # F_FULLFSYNC of macOS
    monkeypatch.setattr("fcntl.fcntl", lambda descriptor, command: asked.append(command))
    monkeypatch.setattr(wal, "_flush", lambda descriptor: asked.append(0))
    Path(f"{path}-wal").write_bytes(b"x")
    log.flush()
    assert asked == [51]

    def unknown(descriptor: int, command: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr("fcntl.fcntl", unknown)
    log.flush()
    assert asked == [51, 0]


def test_a_python_without_ctypes_keeps_jobs_as_well(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ctypes", None)
    _begin_writing.cache_clear()
    try:
        store = SQLiteStore(path, clock=clock)
        for _ in range(3):  # it is first asked for with the second one
            assert store.enqueue(ONE).created
        store.close()
    finally:
        _begin_writing.cache_clear()


def test_the_disk_is_asked_to_begin_where_the_system_can(path: Path, log: Log) -> None:
    begin = _begin_writing()
    if begin is None:
        pytest.skip("this system has no sync_file_range")
    Path(f"{path}-wal").write_bytes(b"x" * 5000)
    assert log.size() == 5000
    assert begin(log._descriptor, 0, 0, 2) == 0, "a wrong signature would fail here"
    assert begin(-1, 0, 0, 2) == -1
    log.flush()
    log.begin_flush()
    log.flush()


def test_the_first_job_after_a_switch_to_write_ahead_logging_is_kept(path: Path, clock: FakeClock) -> None:
    store = SQLiteStore(path, clock=clock)
    store.migrate()
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
    assert store.enqueue(ONE).id == 1
    store.close()


def test_who_writes_while_its_own_thread_is_writing_is_told_so_and_spoils_nothing(
    path: Path, clock: FakeClock
) -> None:
    store = SQLiteStore(path, clock=clock)
    store.migrate()
    told: list[str] = []

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO mpdispatch_queues (name, is_paused) VALUES ('first', 1)")
        try:  # as a signal handler would
            store.enqueue(ONE)
        except UsageError as error:
            told.append(str(error))
        connection.execute("INSERT INTO mpdispatch_queues (name, is_paused) VALUES ('second', 1)")

    store._sessions.current().write(work, point="test")
    assert "signal handler" in told[0]
    assert [stats.name for stats in store.queue_stats()] == ["first", "second"]
    assert store.enqueue(ONE).id == 1
    store.close()

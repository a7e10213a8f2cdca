"""The write-ahead log stays small, whoever reads."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mpdispatch.model import AlikeJobs, NewJob
from mpdispatch.store import SQLiteStore
from mpdispatch.store.sqlite.wal import CHECKPOINT_BYTES, Log
from tests.clock import FakeClock

from .conftest import Desk, completed

MIB = 2**20


@pytest.fixture
def log(path: Path) -> Iterator[Log]:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE a (b)")
        yield Log(connection, path)


def _set_size(path: Path, size: int) -> None:
    os.truncate(f"{path}-wal", size)


def test_after_it_started_over_the_next_checkpoint_is_due_as_early_as_the_first(log: Log, path: Path) -> None:
    for _ in range(3):
        _set_size(path, CHECKPOINT_BYTES)
        assert not log.is_due()
        _set_size(path, CHECKPOINT_BYTES + 5000)
        assert log.is_due()
        log.checkpoint()
        assert not log.is_due(), "not after every commit again"
        _set_size(path, CHECKPOINT_BYTES + 5000 + MIB + 1)
        assert log.is_due()


def test_a_reader_steps_aside_until_the_log_is_small(
    log: Log, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set_size(path, 20 * MIB)
    monkeypatch.setattr("mpdispatch.store.sqlite.wal.sleep", lambda _: pytest.fail("it is not that large"))
    log.step_aside()
    _set_size(path, 40 * MIB)
    slept = list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        _set_size(path, 0)

    monkeypatch.setattr("mpdispatch.store.sqlite.wal.sleep", sleep)
    log.step_aside()
    assert len(slept) == 1


@pytest.mark.parametrize(("size_mib", "at_most_s"), [(25, 0.02), (30, 0.12), (2000, 0.5)])
def test_a_reader_steps_aside_for_a_moment_only(
    log: Log, path: Path, monkeypatch: pytest.MonkeyPatch, size_mib: int, at_most_s: float
) -> None:
    _set_size(path, size_mib * MIB)
    now = 1000.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("mpdispatch.store.sqlite.wal.sleep", sleep)
    monkeypatch.setattr("mpdispatch.store.sqlite.wal.time.monotonic", lambda: now)
    log.step_aside()
    assert now - 1000 == pytest.approx(at_most_s, abs=0.003)


def test_readers_that_never_pause_do_not_make_it_grow(path: Path, clock: FakeClock) -> None:
    store = SQLiteStore(path, durability="process", clock=clock)
    store.migrate()
    desk = Desk(store, clock)
    is_over = threading.Event()
    count = 0

    def read() -> None:
        nonlocal count
        while not is_over.is_set():
            store.counts()
            count += 1
        store.close()

    readers = [threading.Thread(target=read) for _ in range(2)]
    for each in readers:
        each.start()
    largest = written = 0
    body = b'{"x":"' + b"x" * 900 + b'"}'
    # Not fewer rounds than it takes to write more than the bound.
    while written < 50 * MIB:
        store.enqueue_many(AlikeJobs(NewJob(name="a", payload=b""), [body] * 1000))
        desk.commit(*[completed(job, clock.now()) for job in desk.claim(1000)])
        desk.supervisor_store.file_care.checkpoint_if_large()
        largest = max(largest, os.stat(f"{path}-wal").st_size)
        written += 3 * 1000 * len(body)
    is_over.set()
    for each in readers:
        each.join()
    assert largest < 32 * MIB
    assert count > 10
    desk.close()
    store.close()


def test_nothing_asks_for_the_times_of_the_log(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel has fine timestamps, a file that was asked for them pays in its next write."""
    asked = list[object]()
    stat = os.stat

    def watched(target: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        asked.append(target)
        return stat(target, *args, **kwargs)

    store = SQLiteStore(path, clock=clock)
    store.migrate()
    desk = Desk(store, clock)
    monkeypatch.setattr(os, "stat", watched)
    job = store.enqueue(NewJob(name="a", payload=b"{}"))
    desk.commit(*[completed(each, clock.now()) for each in desk.claim(1)])
    desk.supervisor_store.file_care.checkpoint_if_large()
    assert store.state_of(job.id) == "completed"
    assert str(path) in asked, "the watch works"
    assert not [target for target in asked if str(target).endswith("-wal")]
    desk.close()
    store.close()

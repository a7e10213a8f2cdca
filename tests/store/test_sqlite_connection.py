"""`connection=`: a job that is enqueued with the caller's own transaction, or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mpdispatch.errors import JobNotFoundError, StoreBusy, StoreMissing, UsageError
from mpdispatch.model import JobState, NewJob
from mpdispatch.store import SQLiteStore
from tests.clock import FakeClock

from .conftest import Desk, Woken

JOB = NewJob(name="a", payload=b'{"n":1}')

# Looked at in test_sqlite_shared.
pytestmark = pytest.mark.filterwarnings("ignore:.*its journal mode is switched:UserWarning")


@pytest.fixture
def shop(path: Path) -> Iterator[SQLiteStore]:
    """A store in the application's own database."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    store = SQLiteStore(path, shared=True)
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def mine(shop: SQLiteStore, path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as connection:
        yield connection


def test_a_job_is_kept_with_the_callers_commit(shop: SQLiteStore, mine: sqlite3.Connection) -> None:
    mine.execute("INSERT INTO orders DEFAULT VALUES")
    job = shop.enqueue(JOB, connection=mine)
    with pytest.raises(JobNotFoundError):
        shop.get(job.id)
    mine.commit()
    assert shop.get(job.id) == job


def test_rolled_back_means_never_enqueued(shop: SQLiteStore, mine: sqlite3.Connection) -> None:
    shop.enqueue(JOB, connection=mine)
    assert mine.in_transaction, "the default mode of sqlite3 began a transaction, and it is the caller's to end"
    shop.enqueue(NewJob(name="a", payload=b'{"x":"' + b"x" * 5000 + b'"}'), connection=mine)
    mine.rollback()
    assert sum(shop.counts().values()) == 0
    assert mine.execute("SELECT count(*) FROM mpdispatch_payloads").fetchone() == (0,)


def test_a_key_in_use_gives_the_older_job_also_uncommitted(shop: SQLiteStore, mine: sqlite3.Connection) -> None:
    mine.row_factory = sqlite3.Row
    mine.text_factory = bytes
    job = NewJob(name="a", payload=b'{"n":1}', idempotency_key="k")
    first = shop.enqueue(job, connection=mine)
    second = shop.enqueue(job, connection=mine)
    assert (second.id, second.created, second.payload) == (first.id, False, {"n": 1})
    assert (mine.row_factory, mine.text_factory) == (sqlite3.Row, bytes), "left as they were"
    mine.commit()
    assert shop.counts()[JobState.PENDING] == 1


def test_no_lock_of_ours_is_taken_and_nobody_is_woken(
    shop: SQLiteStore, mine: sqlite3.Connection, clock: FakeClock
) -> None:
    desk, woken = Desk(shop, clock), Woken(shop)
    assert shop._sessions.current()._lock.acquire(0.0)
    shop.enqueue(JOB, connection=mine)
    shop._sessions.current()._lock.release()
    mine.commit()
    assert woken.times() == 0
    shop.wake()
    assert woken.times() == 1
    assert len(desk.claim()) == 1
    desk.close()


def test_a_connection_on_another_file_is_refused(shop: SQLiteStore, tmp_path: Path) -> None:
    said = pytest.raises(UsageError, match=r"other\.db, the store is .*jobs\.db")
    with closing(sqlite3.connect(tmp_path / "other.db")) as other, said:
        shop.enqueue(JOB, connection=other)
    with closing(sqlite3.connect(":memory:")) as memory, pytest.raises(UsageError, match="no file"):
        shop.enqueue(JOB, connection=memory)


def test_the_same_file_by_another_name_is_the_same(shop: SQLiteStore, path: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    with closing(sqlite3.connect(link)) as connection:
        job = shop.enqueue(JOB, connection=connection)
        connection.commit()
    assert shop.get(job.id) == job


def test_a_connection_of_another_copy_of_sqlite_is_refused_with_the_reason(shop: SQLiteStore) -> None:
    class Connection:
        in_transaction = False

        def execute(self, *args: Any) -> None:
            raise AssertionError("it must not be touched")

    Connection.__module__ = "pysqlite3.dbapi2"
    with pytest.raises(UsageError, match=r"pysqlite3\.dbapi2.*two copies of SQLite"):
        shop.enqueue(JOB, connection=Connection())


def test_an_in_memory_store_has_no_second_connection() -> None:
    store = SQLiteStore(":memory:")
    with closing(sqlite3.connect(":memory:")) as connection, pytest.raises(UsageError, match="file"):
        store.enqueue(JOB, connection=connection)


def test_a_busy_file_is_a_store_error(shop: SQLiteStore, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with closing(sqlite3.connect(path, timeout=0)) as mine, pytest.raises(StoreBusy):
            shop.enqueue(JOB, connection=mine)


def test_without_our_tables_an_open_transaction_is_told_so_at_once(path: Path) -> None:
    with closing(sqlite3.connect(path)) as mine:
        mine.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        mine.execute("INSERT INTO orders DEFAULT VALUES")
        store = SQLiteStore(path, shared=True)
        with pytest.raises(StoreMissing):
            store.enqueue(JOB, connection=mine)
        mine.commit()
        job = store.enqueue(JOB, connection=mine)
        mine.commit()
        assert store.get(job.id) == job
        store.close()

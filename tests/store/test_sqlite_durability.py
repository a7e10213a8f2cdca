"""Which commits wait for the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mpdispatch import sqlite3
from mpdispatch.clock import FakeClock
from mpdispatch.model import NewJob
from mpdispatch.store import SQLiteStore
from mpdispatch.store.sqlite.connection import Session

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
        store.enqueue_many(NewJob(name="a", payload=b""), [b"{}"], now=clock.now())
        (job,) = desk.claim()
        desk.turn(completed(job, clock.now()))
    desk.close()
    store.close()


def test_all_commits_wait_for_the_disk_but_those_of_a_claim(
    path: Path, clock: FakeClock, levels: list[tuple[str, int]]
) -> None:
    _three_jobs(SQLiteStore(path), clock)
    turns = [level for point, level in levels if point == "turn"]
    assert turns == [NORMAL, FULL] * 3
    assert {level for point, level in levels if point != "turn"} == {FULL}


def test_with_durability_process_none_waits(
    path: Path, clock: FakeClock, levels: list[tuple[str, int]]
) -> None:
    _three_jobs(SQLiteStore(path, durability="process"), clock)
    assert {level for _, level in levels} == {NORMAL}


def test_an_interrupt_while_the_fsync_is_switched_off_leaves_no_commit_without_it(
    path: Path, clock: FakeClock, levels: list[tuple[str, int]]
) -> None:
    store = SQLiteStore(path)
    store.migrate()
    session = store._session()
    real = session.connection

    class Interrupted:
        def execute(self, statement: str) -> None:
            real.execute(statement)
            raise KeyboardInterrupt

    session.connection = Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        session.write(lambda c: None, point="unsynced", synced=False)
    session.connection = real
    session.write(lambda c: None, point="synced")
    assert levels[-1] == ("synced", FULL)
    store.close()

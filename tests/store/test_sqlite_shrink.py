"""A store's file becomes smaller where pruning has made room; an application's own file is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mpdispatch import sqlite3
from mpdispatch.errors import StoreError, UsageError
from mpdispatch.model import AlikeJobs, NewJob
from mpdispatch.store import SQLiteStore
from mpdispatch.store.filters import PruneFilter
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.store.values import Retention

MIB = 1 << 20


def fill(store: SQLiteStore, count: int, *, ended: bool) -> None:
    """Add jobs of some 1 KiB."""
    payload = b'{"text":"' + b"x" * 900 + b'"}'
    ids = store.enqueue_many(AlikeJobs(NewJob(name="a", payload=b""), [payload] * count)).ids
    if ended:
        connection = store._sessions.current().connection
        connection.execute(
            "UPDATE mpdispatch_jobs SET state = 'completed', lane = NULL, completed_at_us = id WHERE id >= ?",
            (ids[0],),
        )


def pragma(store: SQLiteStore, name: str) -> object:
    store.counts()  # a connection learns of a new mode at its next read
    return store._sessions.current().connection.execute(f"PRAGMA {name}").fetchone()[0]


def prune_and_shrink(supervisor_store: SupervisorStore) -> int:
    """A whole round of a supervisor. Gives the number of steps that made the file smaller."""
    while supervisor_store.upkeep.prune(Retention(1, 1, None)).has_more:
        continue
    steps = 0
    while supervisor_store.file_care.shrink():
        steps += 1
    return steps


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(path, durability="process")
    store.check(create=True)
    yield store
    store.close()


@pytest.fixture
def old_store(path: Path) -> Iterator[SQLiteStore]:
    """As earlier versions made it."""
    path.touch(0o600)
    with closing(sqlite3.connect(str(path))) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    store = SQLiteStore(path, durability="process")
    store.check(create=True)
    assert pragma(store, "auto_vacuum") == 0
    yield store
    store.close()


def check(store: SQLiteStore, jobs: int) -> None:
    assert pragma(store, "quick_check") == "ok"
    assert sum(store.counts().values()) == jobs


def test_a_supervisor_makes_the_file_smaller_in_steps(store: SQLiteStore, path: Path) -> None:
    assert pragma(store, "auto_vacuum") == 2
    fill(store, 6000, ended=True)
    fill(store, 1000, ended=False)  # they stand at the end
    supervisor_store = store.supervisor_store()
    supervisor_store.file_care.checkpoint_if_large()
    before = path.stat().st_size
    assert prune_and_shrink(supervisor_store) > 1
    assert path.stat().st_size < before / 2
    assert 256 <= int(str(pragma(store, "freelist_count"))) < 512, "some pages stay, for the next jobs"
    check(store, 1000)
    assert prune_and_shrink(supervisor_store) == 0
    supervisor_store.close()


def test_prune_makes_file_and_log_smaller(store: SQLiteStore, path: Path) -> None:
    fill(store, 6000, ended=True)
    store._sessions.current().checkpoint()
    before = path.stat().st_size
    store.prune(PruneFilter(keep=100))
    assert path.stat().st_size < before / 2
    assert Path(f"{path}-wal").stat().st_size == 0
    check(store, 100)


def test_an_old_file_is_rewritten_by_a_supervisor_if_it_is_nearly_empty(
    old_store: SQLiteStore, path: Path
) -> None:
    fill(old_store, 10_000, ended=True)
    fill(old_store, 500, ended=False)
    supervisor_store = old_store.supervisor_store()
    prune_and_shrink(supervisor_store)
    assert pragma(old_store, "auto_vacuum") == 2, "from now on it is as a new one"
    assert pragma(old_store, "page_count") < 512
    check(old_store, 500)
    supervisor_store.close()


def test_an_old_file_that_holds_much_is_compacted_on_demand(old_store: SQLiteStore, path: Path) -> None:
    fill(old_store, 6_000, ended=True)
    fill(old_store, 12_000, ended=False)
    old_store._sessions.current().checkpoint()
    supervisor_store = old_store.supervisor_store()
    size = path.stat().st_size
    prune_and_shrink(supervisor_store)
    supervisor_store.close()
    assert path.stat().st_size >= size, "that would keep others waiting for long"
    (finding,) = [each for each in old_store.examine() if each.check == "size"]
    assert "earlier version" in finding.message
    assert "mpdispatch prune --compact" in str(finding.remedy)
    before, after = old_store.compact()
    assert (before, after) == (size, path.stat().st_size)
    assert after < before - 4 * MIB
    assert not [each for each in old_store.examine() if each.check == "size"]
    check(old_store, 12_000)


def test_the_file_of_an_application_keeps_its_size(path: Path) -> None:
    with closing(sqlite3.connect(str(path))) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE customers (name TEXT)")
    store = SQLiteStore(path, durability="process", shared=True)
    store.check(create=True)
    assert pragma(store, "auto_vacuum") == 0
    fill(store, 6000, ended=True)
    supervisor_store = store.supervisor_store()
    assert prune_and_shrink(supervisor_store) == 0
    supervisor_store.close()
    fill(store, 10, ended=True)
    store.prune(PruneFilter(keep=0))
    assert pragma(store, "freelist_count")
    assert not [each for each in store.examine() if each.check == "size"]
    with pytest.raises(StoreError, match="your application's own database"):
        store.compact()
    store.close()


def test_a_new_file_of_an_application_is_not_told_how_to_keep_its_pages(path: Path) -> None:
    store = SQLiteStore(path, shared=True)
    store.check(create=True)
    assert pragma(store, "auto_vacuum") == 0
    store.close()


def test_a_store_in_memory_has_no_file_to_compact() -> None:
    with pytest.raises(UsageError, match="no file to compact"):
        SQLiteStore(":memory:").compact()

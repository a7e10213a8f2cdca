"""Databases that look usable and are not: text in UTF-16, and a file with two names."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mpdispatch.clock import Instant
from mpdispatch.errors import StoreError, StoreNotUTF8
from mpdispatch.model import NewJob
from mpdispatch.store import SQLiteStore
from tests.conftest import Cli

JOB = NewJob(name="render", payload=b'{"path":"a.pdf"}')


def in_utf16(path: Path, encoding: str = "UTF-16le", table: str = "CREATE TABLE customers (name TEXT)") -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        connection.execute(table)


def emptied(path: Path) -> None:
    in_utf16(path, table="CREATE TABLE gone (x)")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TABLE gone")


# ---------------------------------------------------------------- encoding


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_an_apps_own_database_in_utf_16_is_refused_with_the_reason_and_a_remedy(
    path: Path, encoding: str
) -> None:
    in_utf16(path, encoding)
    before = path.read_bytes()
    store = SQLiteStore(path, shared=True)
    for use in (lambda: store.enqueue(JOB), store.migrate, lambda: store.check(create=True)):
        with pytest.raises(
            StoreNotUTF8, match=rf"{encoding}, and mpdispatch needs .*UTF-8; .*\.dump"
        ) as caught:
            use()
    assert caught.value.encoding == encoding
    assert path.read_bytes() == before


def test_an_empty_file_in_utf_16_is_refused_before_anything_is_made_in_it(path: Path) -> None:
    emptied(path)
    with pytest.raises(StoreNotUTF8):
        SQLiteStore(path).enqueue(JOB)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


@pytest.fixture
def old_store(path: Path) -> Path:
    """A store in UTF-16, as one made by an older version could be."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA encoding = 'UTF-16le'")
        connection.execute(
            "CREATE TABLE mpdispatch_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
        )
        connection.execute("INSERT INTO mpdispatch_meta VALUES ('schema_version', '1')")
    return path


def test_a_store_that_is_in_utf_16_already_is_refused(old_store: Path) -> None:
    with pytest.raises(StoreNotUTF8):
        SQLiteStore(old_store).counts()
    with pytest.raises(StoreNotUTF8):
        SQLiteStore(old_store).supervisor_store().cancel_requests(1)


@pytest.mark.parametrize("command", ["doctor", "jobs", "supervise tests.pool.app:engine", "migrate"])
def test_commands_say_that_a_store_is_in_utf_16_and_exit_65(old_store: Path, cli: Cli, command: str) -> None:
    done = cli(*command.split(), "--store", str(old_store))
    assert done.returncode == 65
    assert "UTF-16le" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_remedy_for_utf_16_gives_a_store_that_works(path: Path, tmp_path: Path) -> None:
    in_utf16(path)
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(copy)) as new:
        new.executescript("\n".join(old.iterdump()))
    with closing(sqlite3.connect(copy)) as new:
        new.execute("PRAGMA journal_mode = WAL")
    store = SQLiteStore(copy, shared=True)
    assert store.enqueue(JOB).id == 1
    store.close()


# ---------------------------------------------------------------- hard links


USES: list[Callable[[SQLiteStore, Instant], object]] = [
    lambda store, now: store.enqueue(JOB),
    lambda store, now: store.counts(),
    lambda store, now: store.supervisor_store().cancel_requests(1),
    lambda store, now: store.migrate(),
]


@pytest.mark.parametrize("use", USES)
def test_a_store_with_two_names_is_refused_by_either(
    path: Path, tmp_path: Path, now: Instant, use: Callable[[SQLiteStore, Instant], object]
) -> None:
    SQLiteStore(path).migrate()
    other = tmp_path / "other.db"
    os.link(path, other)
    for name in (path, other):
        with pytest.raises(StoreError, match=r"2 names \(hard links\).*remove all but one.*-samefile"):
            use(SQLiteStore(name), now)
    other.unlink()
    store = SQLiteStore(path)
    use(store, now)
    store.close()


def test_nothing_is_lost_when_a_second_name_is_made_while_a_store_is_open(path: Path, tmp_path: Path) -> None:
    store = SQLiteStore(path)
    store.enqueue(JOB)
    os.link(path, tmp_path / "other.db")
    with pytest.raises(StoreError, match="hard links"):
        SQLiteStore(tmp_path / "other.db").enqueue(JOB)
    store.enqueue(JOB)
    store.close()
    (tmp_path / "other.db").unlink()
    assert sum(SQLiteStore(path).counts().values()) == 2


def test_doctor_names_the_remedy_for_a_second_name(path: Path, tmp_path: Path, cli: Cli) -> None:
    SQLiteStore(path).migrate()
    os.link(path, tmp_path / "other.db")
    done = cli("doctor", "--store", str(path))
    assert done.returncode == 69
    assert "hard links" in done.stderr
    assert "remove all but one" in done.stderr

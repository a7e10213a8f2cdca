"""What can be wrong with a file, and what opening leaves alone."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mpdispatch.errors import (
    StoreCannotCreate,
    StoreCorrupt,
    StoreError,
    StoreForeign,
    StoreMissing,
    StoreNotShared,
    StorePermission,
    StoreTooNew,
    StoreTooOld,
    StoreVanished,
    UsageError,
)
from mpdispatch.model import NewJob
from mpdispatch.private import folder_beside
from mpdispatch.sqlite3 import has_wal_reset_bug
from mpdispatch.store import SQLiteStore, open_store
from mpdispatch.store.filters import JobFilter
from mpdispatch.store.sqlite import connect, schema

JOB = NewJob(name="a", payload=b"{}")


def execute(path: Path, *statements: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows: list[tuple[object, ...]] = []
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        return rows


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---------------------------------------------------------------- creating


def test_making_a_store_touches_no_disk(path: Path) -> None:
    SQLiteStore(path)
    assert not path.exists()


@pytest.mark.parametrize(
    "read",
    [
        lambda s: s.get(1),
        lambda s: s.counts(),
        lambda s: s.list_jobs(JobFilter(), limit=1, cursor=None),
        lambda s: s.check(),
    ],
)
def test_reading_creates_no_store(path: Path, read: Callable[[SQLiteStore], object]) -> None:
    with pytest.raises(StoreMissing, match="mpdispatch migrate"):
        read(SQLiteStore(path))
    assert list(path.parent.iterdir()) == []


def test_enqueue_creates_the_store(path: Path) -> None:
    store = SQLiteStore(path)
    assert store.enqueue(JOB).id == 1
    assert store.migrate() == (schema.VERSION, schema.VERSION)
    store.close()


def test_an_empty_file_is_taken_for_a_new_store(path: Path) -> None:
    path.touch()
    with pytest.raises(StoreMissing):
        SQLiteStore(path).check()
    assert SQLiteStore(path).migrate() == (0, schema.VERSION)


def test_only_its_owner_can_read_a_new_store_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        store = SQLiteStore(path)
        store.enqueue(JOB)
        beside = [Path(f"{path}-wal"), Path(f"{path}-shm"), folder_beside(path) / "lock"]
        assert [mode_of(each) for each in (path, *beside)] == [0o600] * 4
        assert mode_of(folder_beside(path)) == 0o700
        store.close()
    finally:
        os.umask(before)


def test_a_new_file_names_its_application_and_leaves_user_version_alone(path: Path) -> None:
    SQLiteStore(path).migrate()
    assert execute(path, "PRAGMA application_id") == [(schema.APPLICATION_ID,)]
    assert execute(path, "PRAGMA user_version") == [(0,)]
    assert execute(path, "PRAGMA journal_mode") == [("wal",)]


def test_nothing_of_an_up_to_date_store_needs_sqlite_utils(path: Path) -> None:
    SQLiteStore(path).migrate()
    code = """if 1:
        import sys
        from mpdispatch.clock import SystemClock
        from mpdispatch.model import NewJob
        from mpdispatch.store import open_store
        store = open_store(sys.argv[1])
        store.enqueue(NewJob(name="a", payload=b"{}"))
        store.supervisor_store().cancel_requests(1)
        assert "sqlite_utils" not in sys.modules
    """
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(path)], check=True, timeout=60)


def test_a_symlink_and_its_target_are_one_store(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    store = SQLiteStore(path)
    store.enqueue(JOB)
    link.symlink_to(path)
    other = SQLiteStore(link)
    assert other.enqueue(JOB).id == 2
    assert other.file == store.file
    store.close()
    other.close()


# ---------------------------------------------------------------- refusing


def test_another_ones_database_is_refused_and_left_as_it_is(path: Path) -> None:
    execute(path, "CREATE TABLE cats (name)")
    before = path.read_bytes()
    for act in (
        lambda s: s.check(create=True),
        lambda s: s.migrate(),
        lambda s: s.counts(),
        lambda s: s.enqueue(JOB),
    ):
        with pytest.raises(StoreForeign, match="shared=True") as raised:
            act(SQLiteStore(path))
        assert raised.value.exit_code == 65
    assert path.read_bytes() == before


def test_a_shared_database_keeps_its_tables_and_numbers(path: Path) -> None:
    execute(path, "CREATE TABLE cats (name)", "PRAGMA user_version = 7", "PRAGMA application_id = 42")
    store = SQLiteStore(path, shared=True)
    with pytest.raises(StoreMissing):
        store.counts()
    with pytest.warns(UserWarning, match="switched from delete to WAL"):
        store.enqueue(JOB)
    store.close()
    assert execute(path, "PRAGMA user_version") == [(7,)]
    assert execute(path, "PRAGMA application_id") == [(42,)]
    names = execute(path, "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite%' AND tbl_name <> 'cats'")
    assert all("mpdispatch" in str(name) for (name,) in names)


def test_a_newer_schema_is_refused_with_both_versions(path: Path) -> None:
    SQLiteStore(path).migrate()
    execute(path, "UPDATE mpdispatch_meta SET value = '99' WHERE key = 'schema_version'")
    for act in (
        lambda s: s.check(),
        lambda s: s.check(create=True),
        lambda s: s.migrate(),
        lambda s: s.enqueue(JOB),
    ):
        with pytest.raises(StoreTooNew) as raised:
            act(SQLiteStore(path))
        assert (raised.value.found, raised.value.supported) == (99, schema.VERSION)


def test_an_older_schema_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SQLiteStore(path).migrate()
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    with pytest.raises(StoreTooOld, match="mpdispatch migrate"):
        SQLiteStore(path).counts()


def test_the_remedy_for_a_missing_store_names_it_as_a_shell_takes_it(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing) as raised:
        SQLiteStore(tmp_path / "my jobs.db").counts()
    assert f"`mpdispatch migrate --store '{tmp_path}/my jobs.db'`" in str(raised.value)


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_what_is_no_database_is_corrupt(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for act in (lambda s: s.check(), lambda s: s.migrate()):
        with pytest.raises(StoreCorrupt) as raised:
            act(SQLiteStore(path))
        assert raised.value.exit_code == 65
    assert path.read_bytes() == content


def test_a_store_without_its_version_is_corrupt(path: Path) -> None:
    SQLiteStore(path).migrate()
    execute(path, "DELETE FROM mpdispatch_meta")
    with pytest.raises(StoreCorrupt, match="version"):
        SQLiteStore(path).check()


def test_a_folder_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreCannotCreate, match="is a folder"):
        SQLiteStore(tmp_path).check(create=True)
    with pytest.raises(StoreCannotCreate, match=r"there is no folder .*nowhere"):
        SQLiteStore(tmp_path / "nowhere" / "jobs.db").check(create=True)
    (tmp_path / "file").touch()
    with pytest.raises(StoreCannotCreate):
        SQLiteStore(tmp_path / "file" / "jobs.db").check()


def test_what_may_not_be_written_is_named_with_its_mode(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SQLiteStore(path).migrate()
    path.chmod(0o400)
    # root may write anything; what the kernel says to others is said here.
    monkeypatch.setattr(os, "access", lambda p, flag: flag == os.R_OK)
    with pytest.raises(StorePermission, match=r"write it \(mode -r--------\)") as raised:
        SQLiteStore(path).check()
    assert raised.value.exit_code == 77


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "fuse.sshfs", "virtiofs"])
def test_network_file_systems_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(connect, "filesystem_of", lambda path: kind)
    with pytest.raises(StoreError, match=f"network file system .{kind}."):
        SQLiteStore(path).check(create=True)
    assert not path.exists()


def test_the_file_system_is_that_of_the_longest_mount_point() -> None:
    assert connect.filesystem_of(Path("/proc/self")) == "proc"
    assert connect.filesystem_of(Path("/")) != "proc"


# ---------------------------------------------------------------- while open


@pytest.mark.parametrize("fate", ["deleted", "replaced"])
def test_a_file_that_vanishes_is_noticed(path: Path, fate: str) -> None:
    store = SQLiteStore(path)
    store.enqueue(JOB)
    supervisor_store = store.supervisor_store()
    supervisor_store.file_care.verify()
    for end in ("", "-wal", "-shm"):
        os.rename(f"{path}{end}", f"{path}.old{end}")
    if fate == "replaced":
        execute(path, "CREATE TABLE cats (name)")
    with pytest.raises(StoreVanished):
        supervisor_store.file_care.verify()
    with pytest.raises(StoreVanished):
        store.enqueue(JOB)
    with pytest.raises(StoreForeign if fate == "replaced" else StoreMissing):
        store.counts()
    supervisor_store.close()
    store.close()


def test_an_in_memory_store_is_of_its_process_only() -> None:
    store = SQLiteStore(":memory:")
    store.enqueue(JOB)
    assert not store.is_shared
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            store.counts()
        except StoreNotShared:
            os.write(writer, b"refused")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"refused"
    os.close(reader)
    os.close(writer)


def test_two_in_memory_stores_are_two() -> None:
    first, second = SQLiteStore(":memory:"), SQLiteStore(":memory:")
    first.enqueue(JOB)
    assert sum(second.counts().values()) == 0


# ---------------------------------------------------------------- locations


@pytest.mark.parametrize(
    ("location", "options"),
    [
        ("jobs.db", {}),
        ("with space/jobs?.db", {}),
        ("jobs#1.db", {"durability": "process"}),
        ("ä 100%.db", {"shared": True, "durability": "process"}),
    ],
)
def test_a_location_opens_the_same_store_again(tmp_path: Path, location: str, options: dict[str, Any]) -> None:
    store = SQLiteStore(tmp_path / location, **options)
    again = open_store(store.location)
    assert again.location == store.location
    assert again.file == store.file == tmp_path / location


def test_a_location_stays_when_the_folder_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for store in (SQLiteStore("jobs.db"), open_store("jobs.db"), open_store("sqlite:///jobs.db")):
        assert store.location == str(tmp_path / "jobs.db")


@pytest.mark.parametrize("location", [":memory:", "sqlite://", "sqlite:///:memory:"])
def test_memory_has_three_names(location: str) -> None:
    assert open_store(location).location == ":memory:"


@pytest.mark.parametrize(
    "location",
    [
        "mysql://host/db",
        "sqlite://host/db",
        "sqlite:///a.db?wal=1",
        "sqlite:///a.db?durability=none",
        "sqlite:///a.db?shared=maybe",
        "",
        "a\0b",
    ],
)
def test_malformed_locations_are_refused(location: str) -> None:
    with pytest.raises(UsageError):
        open_store(location)


# ---------------------------------------------------------------- versions of SQLite


@pytest.mark.parametrize(
    ("version", "has_it"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 4), False),
    ],
)
def test_the_wal_reset_bug_is_known_by_version(version: tuple[int, int, int], has_it: bool) -> None:
    assert has_wal_reset_bug(version) is has_it


@pytest.mark.parametrize("place", ["jobs.db", ":memory:"])
def test_a_sqlite_without_strict_tables_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(connect, "LEAST_SQLITE", (99, 37, 0))
    with pytest.raises(StoreError, match=r"needs SQLite 99\.37\.0 or later, and (sqlite3|pysqlite3) has 3\."):
        SQLiteStore(place).migrate()

"""Copies of a store that is in use: whole, private, of one moment, and nobody of the old store may write to one."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import pytest

from mpdispatch import sqlite3
from mpdispatch.errors import (
    LeaseLostError,
    StoreCannotCreate,
    StoreCorrupt,
    StoreMissing,
    StorePermission,
    StoreVanished,
    UsageError,
)
from mpdispatch.failpoints import FailpointError, arm
from mpdispatch.model import AlikeJobs, JobState, NewJob
from mpdispatch.store import SQLiteStore
from mpdispatch.store.sqlite import backup as backups
from mpdispatch.store.sqlite import connection
from tests.clock import FakeClock

from .conftest import TTL_US, Desk, completed, registration

NEW = NewJob(name="render", payload=b"{}")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "copies" / "jobs.db"


@pytest.fixture(autouse=True)
def folder(copy: Path) -> Path:
    copy.parent.mkdir()
    return copy.parent


@pytest.fixture
def desk(file_store: SQLiteStore, clock: FakeClock) -> Iterator[Desk]:
    desk = Desk(file_store, clock)
    yield desk
    desk.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_copy_is_a_store_of_its_own(
    file_store: SQLiteStore, desk: Desk, copy: Path, clock: FakeClock
) -> None:
    big = b'{"text":"' + b"x" * 9000 + b'"}'
    ids = [file_store.enqueue(NewJob(name="render", payload=big)).id for _ in range(20)]
    first, *_ = desk.claim(3)
    desk.commit(completed(first, clock.now(), result=big))
    made = file_store.backup(copy)
    assert (made.path, made.bytes, made.jobs) == (copy, copy.stat().st_size, 20)
    assert names(copy.parent) == ["jobs.db"], "its log is in it"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    desk.commit(completed(first, clock.now()))
    restored = SQLiteStore(copy, clock=clock)
    assert restored.counts() == file_store.counts()
    assert [restored.get(each) for each in ids] == [file_store.get(each) for each in ids]
    assert not [each for each in restored.examine() if each.needs_doing]
    assert restored.supervisors() == []
    assert restored.enqueue(NEW).id == file_store.enqueue(NEW).id
    restored.close()


def test_no_supervisor_of_the_store_has_an_id_in_the_copy_and_running_jobs_are_taken_over(
    file_store: SQLiteStore, desk: Desk, copy: Path, clock: FakeClock
) -> None:
    file_store.enqueue(NEW)
    (job,) = desk.claim()
    file_store.backup(copy)
    later = [file_store.supervisor_store().register(registration(), TTL_US) for _ in range(3)]
    restored = SQLiteStore(copy, clock=clock)
    new = Desk(restored, clock)
    for owner in (desk.owner, *later):
        assert owner < new.owner
        with pytest.raises(LeaseLostError):
            new.supervisor_store.renew(owner, TTL_US)
        with pytest.raises(LeaseLostError):
            new.supervisor_store.commit(owner, [completed(job, clock.now())])
    assert restored.get(job.id).state is JobState.RUNNING
    assert new.supervisor_store.peers(new.owner).unregistered == [desk.owner]
    assert new.supervisor_store.take_over(desk.owner, [completed(job, clock.now())])
    assert restored.get(job.id).state is JobState.COMPLETED
    new.close()
    restored.close()
    other = copy.with_name("other.db")
    file_store.backup(other)
    with closing(sqlite3.connect(str(other))) as one, closing(sqlite3.connect(str(copy))) as two:
        sequence = "SELECT seq FROM sqlite_sequence WHERE name = 'mpdispatch_supervisors'"
        assert one.execute(sequence).fetchone() != two.execute(sequence).fetchone()


def test_a_copy_is_of_one_moment_while_others_write(
    file_store: SQLiteStore, copy: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step of the copy is followed by a transaction that adds two jobs and cancels one."""
    payload = b'{"text":"' + b"x" * 3000 + b'"}'
    file_store.enqueue_many(AlikeJobs(NEW, [payload] * 3000))
    file_store._sessions.current().checkpoint()
    other, steps = SQLiteStore(path, durability="process"), []

    def write(point: str) -> None:
        if point == "backup.step":
            steps.append(other.enqueue_many(AlikeJobs(NEW, [payload] * 2)).ids)

    monkeypatch.setattr(backups, "failpoint", write)
    made = file_store.backup(copy)
    assert 5 < len(steps) < 50, "in steps, and never begun anew"
    assert made.jobs == 3000
    assert sum(SQLiteStore(copy).counts().values()) == 3000
    assert sum(other.counts().values()) == 3000 + 2 * len(steps)
    other.close()


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("there", StoreCannotCreate, "is there already, and a backup replaces nothing"),
        ("link", StoreCannotCreate, "is there already"),
        ("", StoreCannotCreate, "is a folder; name a file in it"),
        ("../jobs.db", StoreCannotCreate, "is the store itself"),
        ("alias", StoreCannotCreate, "is the store itself"),
        ("nowhere/jobs.db", StoreCannotCreate, "there is no folder"),
        ("there/jobs.db", StoreCannotCreate, "cannot be"),
        ("x" * 300, StoreCannotCreate, "File name too long"),
    ],
)
def test_a_destination_that_cannot_be_is_refused(
    file_store: SQLiteStore, folder: Path, path: Path, name: str, error: type[Exception], text: str
) -> None:
    (folder / "there").write_text("precious")
    (folder / "link").symlink_to("nothing")
    (folder / "alias").symlink_to(path)
    before = names(folder)
    with pytest.raises(error, match=text):
        file_store.backup(folder / name)
    assert names(folder) == before
    assert (folder / "there").read_text() == "precious"


@pytest.mark.parametrize("bad", ["", "a\0b", b"bytes.db"])
def test_a_destination_that_names_no_file_is_refused(file_store: SQLiteStore, bad: str) -> None:
    with pytest.raises(UsageError, match="destination: must be text that names a file"):
        file_store.backup(bad)


def test_a_store_that_is_missing_or_in_memory_has_nothing_to_copy(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(StoreMissing):
        SQLiteStore(tmp_path / "none.db").backup(copy)
    with pytest.raises(UsageError, match="has no file to copy"):
        SQLiteStore(":memory:").backup(copy)
    assert names(copy.parent) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(file_store: SQLiteStore, folder: Path) -> None:
    folder.chmod(0o500)
    with pytest.raises(StorePermission):
        file_store.backup(folder / "a.db")


def test_a_read_only_file_system_is_named_with_the_destination(
    file_store: SQLiteStore, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, delete = os.open, os.unlink

    def refuse(path: str | Path) -> None:
        if Path(path).parent == copy.parent:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def open_elsewhere(path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        refuse(path)
        return make(path, flags, mode, dir_fd=dir_fd)

    def delete_elsewhere(path: str | Path) -> None:
        refuse(path)
        delete(path)

    monkeypatch.setattr(os, "open", open_elsewhere)
    monkeypatch.setattr(os, "unlink", delete_elsewhere)
    with pytest.raises(StorePermission, match=r"jobs\.db: the copy cannot be written: Read-only file system"):
        file_store.backup(copy)


@pytest.mark.parametrize("point", ["backup.step", "backup.copied"])
def test_nothing_is_left_of_a_copy_that_failed(
    file_store: SQLiteStore, folder: Path, copy: Path, point: str
) -> None:
    file_store.enqueue(NEW)
    arm(f"{point}:raise")
    try:
        with pytest.raises(FailpointError):
            file_store.backup(copy)
    finally:
        arm("")
    assert names(folder) == []
    assert file_store.backup(copy).jobs == 1


def test_a_damaged_store_gives_no_copy(file_store: SQLiteStore, path: Path, copy: Path) -> None:
    file_store.enqueue_many(AlikeJobs(NEW, [b"{}"] * 5000))
    file_store._sessions.current().checkpoint(truncate=True)
    file_store.close()
    with path.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(StoreCorrupt):
        file_store.backup(copy)
    assert names(copy.parent) == []


def test_a_name_that_is_taken_meanwhile_is_not_overwritten(
    file_store: SQLiteStore, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(point: str) -> None:
        if point == "backup.copied":
            copy.write_text("precious")

    monkeypatch.setattr(backups, "failpoint", write)
    with pytest.raises(StoreCannotCreate, match="made by another program meanwhile"):
        file_store.backup(copy)
    assert copy.read_text() == "precious"
    assert names(copy.parent) == ["jobs.db"]


def test_a_thread_goes_on_with_its_own_connection(file_store: SQLiteStore, copy: Path) -> None:
    file_store.enqueue(NEW)
    threads = [
        threading.Thread(target=file_store.backup, args=(copy.with_name(str(number)),)) for number in range(4)
    ]
    for each in threads:
        each.start()
    made = [file_store.enqueue(NEW).id for _ in range(20)]
    for each in threads:
        each.join()
    assert names(copy.parent) == ["0", "1", "2", "3"]
    assert len(set(made)) == 20


# ---------------------------------------------------------------- a copy in the store's place


def remove_log(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()


def copied_over(copy: Path, path: Path) -> None:
    path.write_bytes(copy.read_bytes())


@pytest.mark.parametrize("restore", [os.replace, copied_over])
@pytest.mark.parametrize("every_s", [0.0, 1000.0], ids=["noticed", "not noticed yet"])
def test_a_connection_of_before_writes_nothing_to_a_copy_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
    clock: FakeClock,
    copy: Path,
    restore: Callable[..., None],
    every_s: float,
) -> None:
    monkeypatch.setattr(connection, "_VERIFY_LOG_EVERY_S", every_s)
    file_store = SQLiteStore(path, clock=clock)
    file_store.check(create=True)
    desk = Desk(file_store, clock)
    file_store.enqueue(NEW)
    (job,) = desk.claim()
    file_store.backup(copy)
    file_store.enqueue_many(AlikeJobs(NEW, [b"{}"] * 3000))
    restored_bytes = copy.read_bytes()
    remove_log(path)
    restore(copy, path)
    is_noticed = not every_s or restore is os.replace
    with pytest.raises(StoreVanished) if is_noticed else nullcontext():
        desk.commit(completed(job, clock.now()))
    with pytest.raises(StoreVanished):
        file_store._sessions.current().checkpoint()
    desk.supervisor_store.close()
    file_store.close()
    assert path.read_bytes() == restored_bytes
    if restore is copied_over:
        with pytest.raises(StoreVanished, match="its log was deleted while this process used it"):
            SQLiteStore(path).counts()
        path = path.with_name("elsewhere.db")
        path.write_bytes(restored_bytes)  # as another process finds it
    restored = SQLiteStore(path, clock=clock)
    assert sum(restored.counts().values()) == 1
    assert restored.get(job.id).state is JobState.RUNNING
    assert not [each for each in restored.examine() if each.check == "content" and each.needs_doing]
    restored.close()


ENDS = """
import os, sys, threading, time
from mpdispatch.model import NewJob
from mpdispatch.store import SQLiteStore
store = SQLiteStore(sys.argv[1])
job = NewJob(name="a", payload=b'{"text":"' + b"x" * 3000 + b'"}')
for _ in range(100):
    store.enqueue(job)
if sys.argv[2] == "restored":
    for suffix in ("-wal", "-shm"):
        os.unlink(sys.argv[1] + suffix)
    with open(sys.argv[1], "r+b") as file:
        file.truncate(0)
        file.write(b"restored")
else:
    taken = threading.Event()
    def use():
        with store._sessions.current().use:
            taken.set()
            time.sleep(1000)
    threading.Thread(target=use, daemon=True).start()
    taken.wait()
"""


@pytest.mark.parametrize("how", ["restored", "in use by a daemon thread"])
def test_the_end_of_a_process_neither_waits_for_its_connections_nor_writes_to_a_restored_file(
    path: Path, how: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDS, str(path), how], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    if how == "restored":
        assert path.read_bytes() == b"restored"
    else:
        assert sum(SQLiteStore(path).counts().values()) == 100

"""Wake-ups through FIFOs in the runtime folder: whom they reach, and that nothing of them is left behind."""

from __future__ import annotations

import os
import select
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpdispatch.host.runtime_folder import runtime_folder
from mpdispatch.host.wake import FifoListener, FifoWake, bring_wake_ups, remove_listener
from mpdispatch.model import NewJob
from mpdispatch.store import SQLiteStore

JOB = NewJob(name="a", payload=b"{}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db-mpd"


@pytest.fixture
def wake(folder: Path) -> Iterator[FifoWake]:
    found = FifoWake(lambda: folder)
    yield found
    found.close()


def is_awake(listener: FifoListener) -> bool:
    readable = bool(select.select([listener], [], [], 0)[0])
    listener.drain()
    assert not select.select([listener], [], [], 0)[0], "drained"
    return readable


def listening(wake: FifoWake, owner: int) -> FifoListener:
    listener = wake.listen(owner)
    assert listener is not None
    return listener


def test_all_who_listen_are_woken_those_too_that_come_later(wake: FifoWake, folder: Path) -> None:
    wake.notify()
    assert not folder.exists(), "who only enqueues makes no folder"
    listeners = [listening(wake, 1), listening(wake, 2)]
    assert not any(is_awake(each) for each in listeners)
    wake.notify()
    assert all(is_awake(each) for each in listeners)
    listeners.append(listening(wake, 3))
    wake.notify()
    assert all(is_awake(each) for each in listeners)
    for each in listeners:
        each.close()
    assert list(folder.iterdir()) == []


def test_who_has_gone_is_not_woken_and_harms_nobody(wake: FifoWake) -> None:
    gone, here = listening(wake, 1), listening(wake, 2)
    wake.notify()
    gone.close()
    here.drain()
    for _ in range(100_000 // 4096 * 40):
        wake.notify()
    assert is_awake(here)
    here.close()


def test_what_a_dead_one_left_is_removed_and_never_waited_for(wake: FifoWake, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.mkfifo(folder / "wake.1", 0o600)
    wake.notify()
    remove_listener(folder, 1)
    remove_listener(folder, 1)
    assert list(folder.iterdir()) == []


def test_one_taken_down_late_leaves_that_of_a_new_database_alone(wake: FifoWake, folder: Path) -> None:
    gone = listening(wake, 1)
    shutil.rmtree(folder)
    assert not gone.is_in_place()
    here = listening(wake, 1)
    assert here.is_in_place()
    gone.close()
    wake.notify()
    assert is_awake(here)
    here.close()


def test_where_there_can_be_no_fifo_nobody_listens(wake: FifoWake, folder: Path) -> None:
    folder.write_text("no folder")
    assert wake.listen(1) is None
    wake.notify()


def test_a_forked_child_wakes_as_its_parent_does(wake: FifoWake) -> None:
    listener = listening(wake, 1)
    wake.notify()
    listener.drain()
    with wake._lock:  # as another thread of the parent may have it at that moment
        if (child := os.fork()) == 0:
            wake.notify()
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert is_awake(listener)
    listener.close()


def waiting(wake: FifoWake) -> FifoListener:
    listener = wake.listen_for_ends()
    assert listener is not None
    return listener


def test_who_waits_hears_of_ends_and_supervisors_of_work(wake: FifoWake, folder: Path) -> None:
    wake.notify_of_ends()
    assert not folder.exists(), "where no supervisor was, nobody ends jobs"
    waiters, supervisor = [waiting(wake), waiting(wake)], listening(wake, 1)
    wake.notify()
    assert [is_awake(each) for each in (*waiters, supervisor)] == [False, False, True]
    wake.notify_of_ends()
    assert [is_awake(each) for each in (*waiters, supervisor)] == [True, True, False]
    for each in (*waiters, supervisor):
        each.close()
    assert [each.name for each in folder.rglob("*")] == ["waiting"]


def test_one_that_begins_to_wait_is_found_at_once_however_many_do(wake: FifoWake) -> None:
    for _ in range(50):
        waiter = waiting(wake)
        wake.notify_of_ends()
        assert is_awake(waiter)
        waiter.close()


def test_while_nobody_waits_a_notice_is_one_look_at_the_folder(
    wake: FifoWake, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(wake).close()
    past = time.time() - 10
    os.utime(folder / "waiting", (past, past))
    wake.notify_of_ends()
    calls = list[str]()

    def count(name: str) -> None:
        act = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, **options: calls.append(name) or act(*args, **options))

    for name in ("open", "listdir", "stat", "fstat", "write", "mkdir"):
        count(name)
    wake.notify_of_ends()
    monkeypatch.undo()
    assert calls == ["fstat"]


def test_what_a_dead_waiter_left_is_removed_once_no_reader_can_come(wake: FifoWake, folder: Path) -> None:
    alive = waiting(wake)
    left = folder / "waiting" / "7.left"
    os.mkfifo(left, 0o600)
    wake.notify_of_ends()
    assert left.exists(), "its reader may be about to open it"
    reader = os.open(left, os.O_RDWR | os.O_NONBLOCK)
    wake.notify_of_ends()
    assert os.read(reader, 9) == b"!", "and is heard of then, though the folder did not change"
    os.close(reader)
    past = time.time() - 2
    os.utime(left, (past, past))
    (folder / "waiting" / "changed").touch()
    wake.notify_of_ends()
    assert not left.exists()
    assert is_awake(alive)
    alive.close()


def test_a_waiter_whose_folder_was_removed_knows_it(wake: FifoWake, folder: Path) -> None:
    gone = waiting(wake)
    assert gone.is_in_place()
    shutil.rmtree(folder)
    assert not gone.is_in_place()
    here = waiting(wake)
    gone.close()
    wake.notify_of_ends()
    assert is_awake(here)
    here.close()


def test_where_there_can_be_no_fifo_nobody_waits_for_one(wake: FifoWake, folder: Path) -> None:
    folder.write_text("no folder")
    assert wake.listen_for_ends() is None
    wake.notify_of_ends()


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_an_enqueue_wakes_who_listens_on_the_store(tmp_path: Path, kind: str) -> None:
    store = SQLiteStore(tmp_path / "jobs.db" if kind == "file" else ":memory:")
    bring_wake_ups(store)
    brought = store.wake_ups
    assert isinstance(brought, FifoWake)
    listener = listening(brought, 1)
    # Another process has a store of its own.
    other = SQLiteStore(tmp_path / "jobs.db") if kind == "file" else store
    bring_wake_ups(other)
    assert (other.wake_ups is brought) is (kind == "memory"), "one that has them keeps them"
    other.enqueue(JOB)
    assert is_awake(listener)
    listener.close()
    store.close()
    other.close()


def test_its_wake_ups_do_not_keep_a_store(tmp_path: Path) -> None:
    store = SQLiteStore(":memory:")
    bring_wake_ups(store)
    store.enqueue(JOB)
    folder = runtime_folder(store)
    del store
    assert not folder.exists()

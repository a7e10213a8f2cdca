"""`supervise="auto"`: one extension per store supervises, another takes over, none beside an external supervisor."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from mpdispatch import AppImportError, DispatchError, SQLiteStore
from mpdispatch.dispatcher import Dispatcher
from mpdispatch.engine import Engine
from mpdispatch.errors import StorePermission
from mpdispatch.extension import DispatchExtension
from mpdispatch.extension.election import Election
from mpdispatch.host.process_lock import SUPERVISING, ProcessLock
from mpdispatch.host.processes import process_id
from mpdispatch.host.runtime_folder import runtime_folder
from tests.extension import apps
from tests.extension.server import Place, end, until

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")


def serving(place: Place, workers: int) -> set[int]:
    """The processes that answer, once there are so many."""
    seen: set[int] = set()

    def look() -> bool:
        # A connection of its own each time: the kernel gives it to any of them.
        seen.add(place.client.get("/ping", headers={"connection": "close"}).json()["pid"])
        return len(seen) == workers

    until(look, f"{workers} processes answer\n{place.said()}")
    return seen


# ---------------------------------------------------------------- several workers of a web server


@needs_proc
@pytest.mark.serial
def test_of_three_server_workers_one_supervises_and_another_takes_over_within_a_second(tmp_path: Path) -> None:
    took = []
    with Place(tmp_path, apps.FASTAPI) as place:
        server = place.serve("--workers", "3")
        for round_number in range(3):
            first = place.only()
            assert first.pid in serving(place, 3)
            job_id = place.order(f"{round_number}.pdf")["id"]
            place.completed(job_id)
            began = time.monotonic()
            os.kill(first.pid, signal.SIGKILL)
            second = until(
                lambda gone=first.pid: next((p for p in place.living() if p.pid != gone), None),  # type: ignore[misc]
                "another supervises",
            )
            took.append(time.monotonic() - began)
            assert second is not None
            assert place.completed(place.order("after.pdf")["id"])["result"]["path"] == "after.pdf"
            assert len(place.living()) == 1
        print("take-over after kill -9 of the supervising worker, s:", [f"{each:.3f}" for each in took])
        assert max(took) < 1.0, took
        end(server)
        until(lambda: not place.marked(), f"no process is left\n{place.said()}")


@needs_proc
def test_all_workers_of_a_server_enqueue_and_each_job_runs_once(tmp_path: Path) -> None:
    with Place(tmp_path, apps.STARLETTE) as place:
        place.serve("--workers", "3")
        serving(place, 3)
        orders = [place.client.post(f"/orders/{n}", headers={"connection": "close"}).json() for n in range(40)]
        assert len({order["pid"] for order in orders}) > 1
        until(lambda: place.store.counts()["completed"] == 40, "all are completed")
        assert all(len(place.store.attempts(order["id"])) == 1 for order in orders)
        assert len(place.living()) == 1


# ---------------------------------------------------------------- beside an external supervisor


@needs_proc
def test_none_supervises_beside_an_external_supervisor_and_one_does_when_it_is_killed(tmp_path: Path) -> None:
    with Place(tmp_path, apps.STARLETTE) as place:
        external = place.supervise()
        assert place.only().pid == external.pid
        place.serve("--workers", "2")
        serving(place, 2)
        assert place.completed(place.order("a.pdf")["id"])
        assert place.only().pid == external.pid
        assert place.client.get("/api/dispatch/healthz").json()["supervises"] is False

        began = time.monotonic()
        place.processes.remove(external)
        end(external, signal.SIGKILL)
        taken = until(
            lambda: next((p for p in place.living() if p.pid != external.pid), None), "one supervises"
        )
        assert taken is not None
        print(f"take-over after kill -9 of the external supervisor: {time.monotonic() - began:.3f} s")
        assert place.completed(place.order("b.pdf")["id"])


@needs_proc
def test_the_supervising_extension_hands_over_to_an_external_supervisor_and_back(tmp_path: Path) -> None:
    with Place(tmp_path, apps.STARLETTE) as place:
        place.serve("--workers", "2")
        inner = place.only()
        external = place.supervise()
        until(
            lambda: [p.pid for p in place.living()] == [external.pid],
            f"only the external one supervises\n{place.said()}",
        )
        assert "handing over" in place.said() or inner.pid not in [p.pid for p in place.living()]
        assert place.completed(place.order("a.pdf")["id"])
        place.processes.remove(external)
        assert end(external) == 0
        until(lambda: len(place.living()) == 1, "one of the server's supervises again")
        assert place.only().pid != external.pid
        assert place.completed(place.order("b.pdf")["id"])


# ---------------------------------------------------------------- in this process

pytest_engine: Engine  # What workers of the tests below import: this module, and so this attribute.


def touch(path: str) -> None:
    Path(path).touch()


def elected(store: SQLiteStore) -> Election:
    global pytest_engine
    pytest_engine = Engine.build(Dispatcher(store=store, concurrency=1))
    pytest_engine.register(touch)
    return Election(pytest_engine.dispatcher, logging.getLogger("test"))


def test_what_keeps_it_from_supervising_is_raised_at_start_and_lets_go_of_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SQLiteStore(tmp_path / "jobs.db")
    store.migrate()
    election = elected(store)

    def fail(self: Dispatcher) -> None:
        raise AppImportError("x", "no such module")

    monkeypatch.setattr(Dispatcher, "start", fail)
    with pytest.raises(AppImportError):
        election.start()
    assert ProcessLock(runtime_folder(store), SUPERVISING).try_acquire()


def test_a_side_folder_that_others_may_write_elects_nobody(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "jobs.db")
    store.migrate()
    folder = runtime_folder(store)
    lock = ProcessLock(folder, SUPERVISING)
    assert lock.try_acquire()
    assert lock.holder() == process_id()
    lock.release()
    folder.chmod(0o777)
    assert lock.holder() is None, "what it says may be anybody's word"
    with pytest.raises(StorePermission, match="can be written by others"):
        elected(store).start()


def test_trouble_later_on_is_told_by_health_logged_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = SQLiteStore(tmp_path / "jobs.db")
    store.migrate()
    holder = ProcessLock(runtime_folder(store), SUPERVISING)
    assert holder.try_acquire()
    election = elected(store)
    tries = []

    def fail(self: Dispatcher) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise DispatchError("not today")

    monkeypatch.setattr(Dispatcher, "start", fail)
    election.start()
    assert election.trouble is None, "another holds the lock: nothing is wrong"
    holder.release()
    until(lambda: election.trouble == "not today", "it says so")
    until(lambda: len(tries) >= 3 and election.trouble is None, "it tries until it works")
    election.stop(None)
    assert caplog.text.count("cannot supervise, trying again") == 1


def test_trouble_with_the_store_while_it_supervises_costs_neither_the_lock_nor_the_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SQLiteStore(tmp_path / "jobs.db")
    store.migrate()
    election = elected(store)
    monkeypatch.setattr(Dispatcher, "start", lambda self: None)
    monkeypatch.setattr(Dispatcher, "is_supervising", property(lambda self: True))
    seen = []

    def fail_once(_: Election) -> list[object]:
        seen.append(election._lock is not None and election._lock.is_held)
        if len(seen) == 2:
            raise DispatchError("busy")
        return []

    monkeypatch.setattr(Election, "_others", fail_once)
    election.start()
    until(lambda: len(seen) >= 4, "it goes on looking")
    assert all(seen)
    assert election.trouble is None
    election.stop(None)


def test_a_store_in_memory_needs_no_lock_and_no_look_at_others() -> None:
    election = elected(SQLiteStore(":memory:"))
    assert election._lock is None
    assert election._others() == []
    election._close()


# ---------------------------------------------------------------- the lock file


def test_a_lock_that_cannot_be_signed_is_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space left")

    first, second = ProcessLock(tmp_path / "side", SUPERVISING), ProcessLock(tmp_path / "side", SUPERVISING)
    with monkeypatch.context() as patched:
        patched.setattr("mpdispatch.host.process_lock.os.pwrite", full)
        with pytest.raises(OSError, match="no space"):
            first.try_acquire()
    assert not first.is_held
    assert second.try_acquire(), "or nobody could ever supervise"
    second.release()


def test_one_holds_the_lock_and_the_file_says_who(tmp_path: Path) -> None:
    first, second = ProcessLock(tmp_path / "side", SUPERVISING), ProcessLock(tmp_path / "side", SUPERVISING)
    assert first.holder() is None
    assert first.try_acquire()
    assert first.try_acquire(), "we hold it already"
    assert not second.try_acquire()
    assert second.holder() == process_id()
    first.release()
    assert second.try_acquire()
    second.release()


def test_a_fork_of_the_holder_does_not_hold_the_lock(tmp_path: Path) -> None:
    lock = ProcessLock(tmp_path / "side", SUPERVISING)
    assert lock.try_acquire()
    forked, told = os.pipe()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.write(told, b"!")
        os.read(read, 1)  # Live on until the parent has looked.
        os._exit(0)
    assert os.read(forked, 1)
    lock.release()
    other = ProcessLock(tmp_path / "side", SUPERVISING)
    assert other.try_acquire(), "the child keeps the lock of its parent"
    other.release()
    os.close(write)
    os.waitpid(pid, 0)
    for fd in (read, forked, told):
        os.close(fd)


def test_a_lock_in_a_removed_folder_counts_for_nothing(tmp_path: Path) -> None:
    first, second = ProcessLock(tmp_path / "side", SUPERVISING), ProcessLock(tmp_path / "side", SUPERVISING)
    assert first.try_acquire()
    (tmp_path / "side" / "supervising").unlink()
    assert second.try_acquire()
    first.release()
    second.release()


def test_a_holder_whose_folder_was_removed_locks_what_is_there_now(tmp_path: Path) -> None:
    first, second = ProcessLock(tmp_path / "side", SUPERVISING), ProcessLock(tmp_path / "side", SUPERVISING)
    assert first.try_acquire()
    shutil.rmtree(tmp_path / "side")
    assert first.try_acquire()
    assert not second.try_acquire(), "one at a time"
    shutil.rmtree(tmp_path / "side")
    assert second.try_acquire()
    assert not first.try_acquire(), "the other was quicker"
    assert not first.is_held
    second.release()


def test_whoever_was_slower_to_lock_anew_hands_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SQLiteStore(tmp_path / "jobs.db")
    store.migrate()
    side, at_work = runtime_folder(store), [False]
    monkeypatch.setattr(Dispatcher, "start", lambda _: at_work.append(True))
    monkeypatch.setattr(Dispatcher, "stop", lambda *_: at_work.append(False))
    monkeypatch.setattr(Dispatcher, "is_supervising", property(lambda _: at_work[-1]))
    election, other = elected(store), ProcessLock(side, SUPERVISING)
    election.start()
    assert at_work[-1]
    (side / "supervising").unlink()
    assert other.try_acquire()
    until(lambda: not at_work[-1], "it hands over")
    other.release()
    until(lambda: at_work[-1], "it supervises again when it can")
    election.stop(None)


# ---------------------------------------------------------------- True and False


def test_supervise_false_only_enqueues(tmp_path: Path) -> None:
    with DispatchExtension(store=tmp_path / "jobs.db", supervise=False) as ext:
        ext.engine.register(touch)
        assert ext.engine.enqueue("touch", "x").state == "pending"
        assert ext.health() | {"supervises": False, "supervisors": 0, "status": "ok"} == ext.health()


def test_supervise_true_supervises_and_health_tells_when_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    global pytest_extension
    pytest_extension = ext = DispatchExtension(store=tmp_path / "jobs.db", supervise=True, concurrency=1)
    monkeypatch.setattr(Dispatcher, "start", lambda self: None)
    with ext:
        assert ext.health()["error"] == "the supervisor of this process has ended"
        assert ext.health()["status"] == "failing"


pytest_extension: DispatchExtension

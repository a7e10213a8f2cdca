"""Forks while the store is open: what a child keeps is kept, and the parent goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mpdispatch.errors import StoreError
from mpdispatch.model import NewJob
from mpdispatch.store import SQLiteStore
from mpdispatch.store.sqlite import forks
from mpdispatch.store.sqlite.forks import ForkGate
from tests.clock import FakeClock

from .conftest import Desk

ONE = NewJob(name="a", payload=b"{}")


def _child(work: Callable[[], object]) -> int:
    """The pid of a fork that does this and exits 0, or 1 if it raises."""
    if (pid := os.fork()) == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def _status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _count_elsewhere(path: Path) -> int:
    """Jobs as a fresh process sees them; it closes the file last, if nobody else has it open."""
    code = (
        "import sys; from mpdispatch.store import SQLiteStore; store = SQLiteStore(sys.argv[1]);"
        "print(sum(store.counts().values())); store.close()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.fixture
def kept(file_store: SQLiteStore) -> Iterator[SQLiteStore]:
    """A store with a job, open in this process."""
    file_store.enqueue(ONE)
    yield file_store
    assert forks.gate._forker is None


def test_what_a_child_keeps_outlives_whoever_closes_the_file(kept: SQLiteStore, path: Path) -> None:
    ready, go = os.pipe(), os.pipe()

    def work() -> None:
        kept.enqueue(ONE)
        os.write(ready[1], b"!")
        os.read(go[0], 1)
        kept.enqueue(ONE)

    pid = _child(work)
    os.read(ready[0], 1)
    kept.close()
    assert _count_elsewhere(path) == 2
    assert Path(f"{path}-wal").exists(), "the child has it open"
    os.write(go[1], b"!")
    assert _status(pid) == 0
    assert _count_elsewhere(path) == 3
    for descriptor in (*ready, *go):
        os.close(descriptor)


def test_the_parent_goes_on_with_the_same_store_in_every_thread(kept: SQLiteStore) -> None:
    with ThreadPoolExecutor(1) as threads:
        threads.submit(kept.enqueue, ONE).result()
        assert _status(_child(lambda: kept.enqueue(ONE))) == 0
        assert threads.submit(kept.enqueue, ONE).result().id == 4
        assert kept.enqueue(ONE).id == 5
        threads.submit(kept.close).result()


def test_a_supervisor_goes_on_after_its_process_forked(kept: SQLiteStore, clock: FakeClock) -> None:
    desk = Desk(kept, clock)
    assert _status(_child(lambda: kept.enqueue(ONE))) == 0
    assert [job.id for job in desk.claim()] == [1, 2]
    assert desk.supervisor_store.file_care.has_changed(), "a new connection has seen nothing yet"
    desk.close()


def test_forks_while_other_threads_write_and_read_lose_nothing(kept: SQLiteStore, path: Path) -> None:
    over, kept_here = threading.Event(), [0]

    def write() -> None:
        while not over.is_set():
            kept.enqueue(ONE)
            kept_here[0] += 1
            kept.counts()
        kept.close()

    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(write)
        statuses = []
        for _ in range(4):
            pids = [_child(lambda: kept.enqueue(ONE)) for _ in range(6)]
            statuses += [_status(pid) for pid in pids]
        over.set()
        writing.result()
    assert statuses == [0] * 24
    assert kept_here[0] > 0
    kept.close()
    assert _count_elsewhere(path) == 1 + 24 + kept_here[0]


def test_a_child_made_while_a_thread_would_not_let_go_is_refused_the_file(
    kept: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forks, "_PATIENCE_S", 0.05)
    is_inside, may_go = threading.Event(), threading.Event()

    def long_read(connection: object) -> None:
        is_inside.set()
        may_go.wait()

    def work() -> None:
        with pytest.raises(StoreError, match="when this process was forked"):
            kept.enqueue(ONE)

    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(kept._sessions.read, long_read)
        is_inside.wait()
        status = _status(_child(work))
        may_go.set()
        reading.result()
        threads.submit(kept.close).result()
    assert status == 0
    assert kept.enqueue(ONE).id == 2


def test_a_fork_waits_for_who_opens_and_nobody_opens_until_it_is_over() -> None:
    gate, order = ForkGate(), list[str]()
    is_inside, may_leave = threading.Event(), threading.Event()

    def opens(name: str) -> None:
        with gate:
            order.append(name)
            is_inside.set()
            with gate:  # whoever is inside may go further in, also while a fork waits for it
                may_leave.wait()

    first = threading.Thread(target=opens, args=("first",))
    first.start()
    is_inside.wait()
    gate.shut(0.05)
    second = threading.Thread(target=opens, args=("second",))
    second.start()
    may_leave.set()
    gate.shut(10)
    first.join()
    order.append("forked")
    with gate:
        order.append("the forking thread itself")
    gate.open()
    second.join()
    assert order == ["first", "forked", "the forking thread itself", "second"]


def test_two_threads_that_fork_do_so_one_after_the_other() -> None:
    gate, order = ForkGate(), list[str]()
    gate.shut(10)

    def forks_too() -> None:
        gate.shut(10)
        order.append("second")
        gate.open()

    second = threading.Thread(target=forks_too)
    second.start()
    second.join(0.05)
    order.append("first")
    gate.open()
    second.join()
    assert order == ["first", "second"]

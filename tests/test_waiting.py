"""Waiting for jobs: woken by ends and not by a clock, whoever ends them, and without harm to anybody else."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mpdispatch import Engine, SQLiteStore, WaitTimeoutError
from mpdispatch.engine import loop_watch, waiting
from mpdispatch.engine.client import JobClient
from mpdispatch.model import NewJob
from tests.clock import FakeClock
from tests.store.conftest import Desk, completed
from tests.whole.harness import until

JOB = NewJob(name="a", payload=b"{}")
LONG_S = 30.0


class Looks:
    """The reads of a store by those that wait."""

    def __init__(self, store: SQLiteStore) -> None:
        self.count = 0
        for name in ("state_of", "ended"):
            setattr(store, name, self._counted(getattr(store, name)))

    def _counted(self, read: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            self.count += 1
            return read(*args)

        return counted


class Place:
    """A store with somebody who waits and, on another connection, a supervisor."""

    def __init__(self, path: Path) -> None:
        self.engine = Engine.open(path)
        self.store = self.engine.store
        assert isinstance(self.store, SQLiteStore)
        self.store.migrate()
        self.looks = Looks(self.store)
        self.folder = Path(f"{path}-mpd") / "waiting"
        self._other = Engine.open(path).store
        self._desks = list[Desk]()

    def desk(self) -> Desk:
        """A supervisor, for the calling thread."""
        self._desks.append(Desk(self._other, FakeClock()))
        return self._desks[-1]

    def waiters(self) -> int:
        return len(os.listdir(self.folder)) if self.folder.exists() else 0

    def close(self) -> None:
        for each in self._desks:
            each.close()
        self.store.close_all()
        self._other.close_all()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path / "jobs.db")
    yield found
    found.close()


@pytest.fixture
def no_net(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look without a wake-up."""
    monkeypatch.setattr(waiting, "NET_S", LONG_S)
    monkeypatch.setattr(loop_watch, "NET_S", LONG_S)


def end(desk: Desk, count: int = 1) -> None:
    now = desk.clock.now()
    claimed = desk.claim(slots=count)
    assert len(claimed) == count
    desk.commit(*(completed(job, now, b"5") for job in claimed))


class Waiter(threading.Thread):
    """Waits on a thread of its own."""

    def __init__(self, wait: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._wait, self.found, self.took_s = wait, None, 0.0
        self.start()

    def run(self) -> None:
        began_s = time.monotonic()
        self.found = self._wait()
        self.took_s = time.monotonic() - began_s

    def result(self) -> Any:
        self.join(10)
        assert not self.is_alive(), "it goes on waiting"
        return self.found


def waiting_async(place: Place, job_id: int) -> Any:
    return asyncio.run(place.engine.wait_async(job_id, LONG_S))


KINDS = pytest.mark.parametrize(
    "wait", [lambda place, job_id: place.engine.wait(job_id, LONG_S), waiting_async], ids=["plain", "async"]
)
Wait = Callable[[Place, int], Any]


@KINDS
@pytest.mark.usefixtures("no_net")
def test_an_end_wakes_who_waits(place: Place, wait: Wait) -> None:
    job, desk = place.store.enqueue(JOB), place.desk()
    waiter = Waiter(lambda: wait(place, job.id))
    until(lambda: place.looks.count >= 2 and place.waiters(), "it waits")
    end(desk)
    assert waiter.result().result == 5
    assert place.waiters() == 0, "nothing is left behind"


@KINDS
@pytest.mark.usefixtures("no_net")
def test_a_cancel_by_another_client_wakes_who_waits(place: Place, wait: Wait) -> None:
    job, failed = place.store.enqueue(JOB), list[BaseException]()

    def waits() -> None:
        try:
            wait(place, job.id)
        except Exception as error:
            failed.append(error)

    waiter = Waiter(waits)
    until(lambda: place.looks.count >= 2 and place.waiters(), "it waits")
    JobClient.of(place.store).cancel(job.id)
    waiter.result()
    assert [type(each).__name__ for each in failed] == ["JobCancelledError"]


@KINDS
def test_who_waits_for_long_hardly_looks(place: Place, wait: Wait, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "NET_S", 0.5)
    monkeypatch.setattr(loop_watch, "NET_S", 0.5)
    job = place.store.enqueue(JOB)
    waiter = Waiter(lambda: wait(place, job.id))
    time.sleep(1.2)
    assert 3 <= place.looks.count <= 5, "two at first, and the net"
    end(place.desk())
    waiter.result()


@KINDS
def test_the_ends_of_others_make_at_most_some_hundred_looks_a_second(place: Place, wait: Wait) -> None:
    job = place.store.enqueue(NewJob(name="a", payload=b"{}", priority=-1))
    desk = place.desk()
    waiter = Waiter(lambda: wait(place, job.id))
    until(lambda: place.waiters(), "it waits")
    before, began_s, commits = place.looks.count, time.monotonic(), 0
    while time.monotonic() < began_s + 1:
        place.store.wake_ups.notify_of_ends()  # as commits do
        commits += 1
        time.sleep(0.001)
    looks = place.looks.count - before
    assert commits > 300, "the machine stood still"
    assert 10 <= looks <= 130
    end(desk)
    waiter.result()


@KINDS
def test_without_wake_ups_it_polls(place: Place, wait: Wait) -> None:
    place.store.wake_ups = None
    job = place.store.enqueue(JOB)
    waiter = Waiter(lambda: wait(place, job.id))
    until(lambda: place.looks.count > 10, "it polls")
    end(place.desk())
    assert waiter.result().result == 5


@KINDS
def test_where_wake_ups_stop_reaching_it_the_net_looks_and_listens_anew(place: Place, wait: Wait) -> None:
    jobs = [place.store.enqueue(JOB) for _ in range(2)]
    waiter = Waiter(lambda: wait(place, jobs[1].id))
    until(place.waiters, "it waits")
    (place.folder / os.listdir(place.folder)[0]).unlink()
    until(place.waiters, "it listens anew")
    end(place.desk(), 2)
    assert waiter.result().result == 5


def test_a_job_that_has_ended_is_given_without_a_listener(place: Place) -> None:
    job = place.store.enqueue(JOB)
    end(place.desk())
    assert place.engine.wait(job.id).result == 5
    assert asyncio.run(place.engine.wait_async(job.id)).result == 5
    assert not place.folder.exists() or not place.waiters()


@pytest.mark.usefixtures("no_net")
def test_a_thousand_that_wait_on_a_loop_share_one_listener_and_one_look(place: Place) -> None:
    ids = [place.store.enqueue(JOB).id for _ in range(1000)]

    async def main() -> None:
        tasks = [asyncio.create_task(place.engine.wait_async(job_id, LONG_S)) for job_id in ids]
        while place.looks.count < 1001:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert place.waiters() == 1
        place.looks.count = 0
        await asyncio.to_thread(lambda: end(place.desk(), 500))
        await asyncio.wait_for(asyncio.gather(*tasks[:500]), 10)
        assert place.looks.count <= 3
        for each in tasks[500:]:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert place.waiters() == 0

    asyncio.run(main())


@pytest.mark.usefixtures("no_net")
def test_a_loop_that_is_closed_after_a_wait_leaves_nothing(place: Place) -> None:
    job = place.store.enqueue(JOB)
    loop = asyncio.new_event_loop()
    with pytest.raises(WaitTimeoutError):
        loop.run_until_complete(place.engine.wait_async(job.id, 0.05))
    loop.close()
    assert place.waiters() == 0


@pytest.mark.usefixtures("no_net")
def test_a_child_of_a_process_that_waits_waits_for_itself(place: Place) -> None:
    jobs, desk = [place.store.enqueue(JOB) for _ in range(2)], place.desk()
    waiter = Waiter(lambda: place.engine.wait(jobs[0].id, LONG_S))
    until(place.waiters, "it waits")
    if (child := os.fork()) == 0:
        try:
            place.engine.wait(jobs[1].id, LONG_S)
            os._exit(0)
        finally:
            os._exit(1)
    until(lambda: place.waiters() == 2, "both wait")
    end(desk, 2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert waiter.result().result == 5

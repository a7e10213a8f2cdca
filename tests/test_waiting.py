"""Waiting for jobs: woken by ends and not by a clock, whoever ends them, and without harm to anybody else."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mpdispatch import (
    Engine,
    Job,
    JobCancelledError,
    JobNotFoundError,
    JobState,
    SQLiteStore,
    UsageError,
    WaitTimeoutError,
)
from mpdispatch.clock import Instant
from mpdispatch.engine.client import JobClient
from mpdispatch.engine.waiting import blocking as waiting
from mpdispatch.engine.waiting import loop_watch
from mpdispatch.model import Cause, ClaimedJob, NewJob, Transition
from tests.clock import FakeClock
from tests.store.conftest import Desk, completed
from tests.store.conftest import ended as ended_by
from tests.store.conftest import failed as failed_by
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


def cancelled_by(job: ClaimedJob, at: Instant) -> Transition:
    return ended_by(job, JobState.CANCELLED, Cause.CANCELLED, at)


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
    until(lambda: place.looks.count >= 2, "it looks at first, and again once it listens")
    before_s, before = time.monotonic(), place.looks.count
    until(lambda: place.looks.count >= before + 2, "the net looks")
    assert time.monotonic() - before_s > 0.5, "and nothing else does"
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
    assert 3 <= looks <= min(130, commits)
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
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # a threaded process forks: that is the point
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


# ---------------------------------------------------------------- many


def completed_plain(engine: Engine, jobs: Any, timeout: float | None = 10) -> Iterator[Job]:
    return engine.as_completed(jobs, timeout)


def completed_async(engine: Engine, jobs: Any, timeout: float | None = 10) -> Iterator[Job]:
    """From async code, and each as soon as it comes."""
    found = engine.as_completed_async(jobs, timeout)
    loop = asyncio.new_event_loop()
    try:
        while True:
            try:
                yield loop.run_until_complete(anext(found))
            except StopAsyncIteration:
                return
    finally:
        loop.run_until_complete(found.aclose())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


MANY = pytest.mark.parametrize("as_completed", [completed_plain, completed_async], ids=["plain", "async"])
AsCompleted = Callable[..., Iterator[Job]]


@MANY
@pytest.mark.usefixtures("no_net")
def test_each_job_is_given_once_as_it_ends_however_it_ends(place: Place, as_completed: AsCompleted) -> None:
    slow, quick, bad, off = (place.store.enqueue(NewJob(name=name, payload=b"{}")) for name in "abcd")
    desk = place.desk()
    claimed = {job.id: job for job in desk.claim()}
    now = desk.clock.now()
    found = as_completed(place.engine, [slow, quick.id, bad, slow, off.id])
    desk.commit(completed(claimed[quick.id], now))
    assert next(found).id == quick.id
    desk.commit(failed_by(claimed[bad.id], now))
    assert (failed := next(found)).id == bad.id
    assert failed.state is JobState.FAILED, "which it says itself"
    waiter = Waiter(lambda: next(found).id)
    until(place.waiters, "it waits")
    desk.commit(completed(claimed[slow.id], now))
    assert waiter.result() == slow.id
    desk.commit(cancelled_by(claimed[off.id], now))
    assert [(job.id, job.state) for job in found] == [(off.id, JobState.CANCELLED)]
    assert place.waiters() == 0


@MANY
def test_of_ten_thousand_jobs_a_look_is_one_read(place: Place, as_completed: AsCompleted) -> None:
    batch = place.engine.register(nothing).enqueue_many({} for _ in range(10_000))
    ended = set[int]()

    def ends() -> None:
        desk = place.desk()
        while claimed := desk.claim(slots=800):
            desk.commit(*(completed(job, desk.clock.now()) for job in claimed))

    ender = Waiter(ends)
    for job in as_completed(place.engine, batch, 60):
        assert job.state is JobState.COMPLETED
        ended.add(job.id)
    ender.result()
    assert ended == set(batch)
    assert place.looks.count < 100


@MANY
def test_what_is_left_when_the_time_is_over_is_said(place: Place, as_completed: AsCompleted) -> None:
    jobs = [place.store.enqueue(JOB) for _ in range(4)]
    end(place.desk())
    found = as_completed(place.engine, jobs, 0.1)
    assert next(found).id == jobs[0].id
    with pytest.raises(WaitTimeoutError, match=r"job 2 is still pending after 0\.1 s \(and 2 more") as timeout:
        next(found)
    assert (timeout.value.job_id, timeout.value.others) == (2, 2)
    assert place.waiters() == 0


@MANY
def test_a_job_that_is_not_there_is_said(place: Place, as_completed: AsCompleted) -> None:
    job = place.store.enqueue(JOB)
    with pytest.raises(JobNotFoundError, match="job 99 not found"):
        list(as_completed(place.engine, [job.id, 99]))
    with pytest.raises(UsageError, match="job_id: must be a whole number, not '1'"):
        list(as_completed(place.engine, ["1"]))
    with pytest.raises(UsageError, match="jobs: must be several jobs or ids, or a Batch, not 7"):
        list(as_completed(place.engine, 7))
    assert list(as_completed(place.engine, [])) == []


def test_who_takes_no_more_of_them_leaves_nothing(place: Place) -> None:
    jobs = [place.store.enqueue(JOB) for _ in range(3)]
    end(place.desk())
    found = place.engine.as_completed(jobs, 0.2)
    next(found)
    with pytest.raises(WaitTimeoutError):
        next(found)
    again = place.engine.as_completed(jobs, 10)
    assert next(again).id == jobs[0].id
    waiter = Waiter(functools.partial(next, again))
    until(place.waiters, "it waits")
    end(place.desk())
    waiter.result()
    assert place.waiters() == 1, "it is going to ask for more"
    del again, waiter
    until(lambda: not place.waiters(), "it is gone")


@pytest.mark.usefixtures("no_net")
def test_the_first_that_ends_is_given(place: Place) -> None:
    async def first(jobs: list[Job]) -> Job:
        return await place.engine.wait_first_async(jobs, 10)

    for is_async in (False, True):
        other, *jobs = (place.store.enqueue(JOB) for _ in range(3))
        wait = (lambda jobs: asyncio.run(first(jobs))) if is_async else place.engine.wait_first
        waiter = Waiter(functools.partial(wait, jobs))
        until(place.waiters, "it waits")
        place.store.cancel(other.id)
        assert waiter.is_alive(), "that was another one"
        place.store.cancel(jobs[1].id)
        found = waiter.result()
        assert (found.id, found.state) == (jobs[1].id, JobState.CANCELLED)
        with pytest.raises(JobCancelledError):
            found.wait(timeout=1)
    with pytest.raises(UsageError, match="wait_first: jobs: there are none to wait for"):
        place.engine.wait_first([])


def nothing() -> None: ...


@pytest.mark.usefixtures("no_net")
def test_whatever_ends_may_bring_is_waited_for_alike(place: Place) -> None:
    job = place.store.enqueue(JOB)

    def ended() -> int | None:
        return 5 if place.store.state_of(job.id).is_terminal else None

    for wait in (
        lambda: waiting.wait_until(place.store, ended, 0.05),
        lambda: asyncio.run(loop_watch.wait_until_async(place.store, ended, 0.05)),
    ):
        with pytest.raises(TimeoutError):
            wait()
    waiters = [
        Waiter(lambda: waiting.wait_until(place.store, ended, 10)),
        Waiter(lambda: asyncio.run(loop_watch.wait_until_async(place.store, ended, 10))),
    ]
    until(lambda: place.waiters() == 2, "they wait")
    end(place.desk())
    assert [each.result() for each in waiters] == [5, 5]

    def breaks() -> None:
        raise JobNotFoundError(7)

    with pytest.raises(JobNotFoundError):
        waiting.wait_until(place.store, breaks, 1)
    assert place.waiters() == 0


@pytest.mark.usefixtures("no_net")
def test_what_one_of_them_raises_does_not_reach_the_others(place: Place) -> None:
    job, reads = place.store.enqueue(JOB), 0

    def breaks() -> None:
        nonlocal reads
        reads += 1
        if reads > 2:
            raise JobNotFoundError(7)

    async def main() -> None:
        other = asyncio.create_task(place.engine.wait_async(job.id, 10))
        bad = asyncio.create_task(loop_watch.wait_until_async(place.store, breaks, 10))
        await asyncio.sleep(0.1)
        place.store.wake_ups.notify_of_ends()
        with pytest.raises(JobNotFoundError):
            await asyncio.wait_for(bad, 5)
        await asyncio.to_thread(lambda: end(place.desk()))
        assert (await other).result == 5

    asyncio.run(main())


@pytest.mark.usefixtures("no_net")
def test_one_that_comes_as_the_last_one_goes_is_looked_for(place: Place) -> None:
    jobs = [place.store.enqueue(JOB) for _ in range(300)]

    async def one_by_one(mine: list[Job]) -> None:
        for job in mine:
            await place.engine.wait_async(job, 20)

    def ends() -> None:
        desk = place.desk()
        for _ in jobs:
            end(desk)

    async def main() -> None:
        crowd = [asyncio.create_task(one_by_one(jobs[n::3])) for n in range(3)]
        await asyncio.to_thread(ends)
        await asyncio.gather(*crowd)

    asyncio.run(main())
    assert place.waiters() == 0

"""Enqueueing and waiting from async code: the same jobs and errors, and an event loop that stays responsive."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mpdispatch import (
    Engine,
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    PayloadError,
    StoreBusy,
    UnknownJobError,
    UsageError,
    WaitTimeoutError,
)
from mpdispatch.engine import JobHandle
from mpdispatch.engine import offload as offloading
from mpdispatch.engine.offload import offload
from mpdispatch.model import Job
from tests.clock import FakeClock
from tests.store.conftest import Desk
from tests.store.conftest import completed as completed_by
from tests.store.conftest import failed as failed_by


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = Engine.open(tmp_path / "jobs.db")
    engine.store.migrate()
    return engine


@pytest.fixture
def render(engine: Engine) -> JobHandle[[str, int], str]:
    @engine.job
    def render(path: str, dpi: int = 300) -> str:
        return path

    return render


def test_every_way_to_enqueue_has_an_async_twin(engine: Engine, render: JobHandle[[str, int], str]) -> None:
    async def main() -> None:
        jobs = [
            await render.enqueue_async("a", dpi=1),
            await render.options(priority=2).enqueue_async("a", dpi=1),
            await engine.enqueue_async("render", "a", dpi=1),
            await engine.options(priority=2).enqueue_async("render", path="a", dpi=1),
        ]
        assert [(job.payload, job.priority) for job in jobs] == [
            ({"path": "a", "dpi": 1}, priority) for priority in (0, 2, 0, 2)
        ]
        items = [{"path": str(number)} for number in range(3)]
        batches = [
            await render.enqueue_many_async(items),
            await render.options(priority=1).enqueue_many_async(items),
            await engine.enqueue_many_async("render", iter(items)),
            await engine.options(priority=1).enqueue_many_async("render", items),
        ]
        assert [batch.count for batch in batches] == [3] * 4

    asyncio.run(main())


def test_the_errors_are_those_of_the_blocking_calls(engine: Engine, render: JobHandle[[str, int], str]) -> None:
    async def main() -> None:
        with pytest.raises(PayloadError, match="dip"):
            await render.enqueue_async("a", dip=1)  # type: ignore[call-arg]
        with pytest.raises(UnknownJobError):
            await engine.enqueue_async("nobody")
        with pytest.raises(JobNotFoundError):
            await engine.wait_async(99)
        with pytest.raises(UsageError, match="job_id"):
            await engine.wait_async("1")  # type: ignore[arg-type]
        with sqlite3.connect(":memory:") as connection, pytest.raises(UsageError, match=r"call enqueue\(\)"):
            await render.options(connection=connection).enqueue_async("a")
        connection.close()

    asyncio.run(main())


def test_wait_async_gives_what_wait_gives(engine: Engine, render: JobHandle[[str, int], str]) -> None:
    desk = Desk(engine.store, FakeClock())

    async def main() -> None:
        done, failed, cancelled, waiting = [await render.enqueue_async(name) for name in "abcd"]
        later = asyncio.create_task(engine.wait_async(done.id, timeout=10))
        engine.cancel(cancelled.id)
        claimed = {job.id: job for job in desk.claim(slots=2)}
        now = desk.clock.now()
        desk.commit(completed_by(claimed[done.id], now, b'"ok"'), failed_by(claimed[failed.id], now))
        assert (await later).result == "ok"
        with pytest.raises(JobFailedError, match="no such page"):
            await engine.wait_async(failed.id)
        with pytest.raises(JobCancelledError):
            await engine.wait_async(cancelled.id)
        with pytest.raises(WaitTimeoutError):
            await engine.wait_async(waiting.id, timeout=0.02)

    asyncio.run(main())
    desk.close()


@pytest.fixture
def busy(engine: Engine, render: JobHandle[[str, int], str]) -> Iterator[threading.Event]:
    """Another program holds the store's write lock until the event is set, for two seconds at most."""
    render.enqueue("makes the store")
    location = engine.store.location
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        connection = sqlite3.connect(location, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        held.set()
        over.wait(2)
        connection.execute("ROLLBACK")
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    yield over
    over.set()
    thread.join()


def test_a_busy_store_leaves_the_event_loop_responsive(
    engine: Engine, render: JobHandle[[str, int], str], busy: threading.Event
) -> None:
    gaps: list[float] = []

    async def tick(until: asyncio.Event) -> None:
        while not until.is_set():
            before = time.monotonic()
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - before)

    async def main() -> None:
        over = asyncio.Event()
        ticking = asyncio.create_task(tick(over))
        # More than there are threads, and waiting besides.
        enqueues = [asyncio.create_task(render.enqueue_async(str(number))) for number in range(8)]
        started = time.monotonic()
        with pytest.raises(WaitTimeoutError):
            await engine.wait_async(1, timeout=0.3)
        assert time.monotonic() - started < 1  # looking does not wait behind the enqueues
        assert not any(each.done() for each in enqueues)
        # The application's own threads are free all the while.
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 5), 1) == 5
        jobs = await asyncio.gather(*enqueues)
        assert len({job.id for job in jobs}) == 8
        over.set()
        await ticking

    started = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - started > 1.5
    # A loop that waited for the store would have stood still for all of that; half of it is no pause of the machine.
    assert max(gaps) < 0.75


def test_a_cancelled_waiter_leaves_the_job_alone(engine: Engine, render: JobHandle[[str, int], str]) -> None:
    async def main() -> None:
        job = await render.enqueue_async("a")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.wait_async(job.id), 0.05)
        assert engine.get_job(job.id).state == "pending"

    asyncio.run(main())


def test_offloaded_calls_see_the_callers_context_variables() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def main() -> str:
        variable.set("mine")
        return await offload(variable.get)

    assert asyncio.run(main()) == "mine"


def test_async_calls_work_in_a_forked_child(engine: Engine, render: JobHandle[[str, int], str]) -> None:
    asyncio.run(render.enqueue_async("parent"))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            asyncio.run(render.enqueue_async("child"))
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert engine.counts()["pending"] == 2


# ---------------------------------------------------------------- very many at once


def _holding(engine: Engine, seconds: float) -> subprocess.Popen[bytes]:
    """Another process that holds the write lock for so long, once this returns."""
    code = (
        "import sqlite3, sys, time\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('BEGIN IMMEDIATE')\nprint(flush=True)\ntime.sleep(float(sys.argv[2]))"
    )
    argv = [sys.executable, "-c", code, engine.store.location, str(seconds)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    return process


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_ten_thousand_enqueues_while_the_store_is_busy_need_few_threads_and_little_memory(
    engine: Engine, render: JobHandle[[str, int], str]
) -> None:
    async def main() -> None:
        await render.enqueue_async("opens what there is to open")
        threads, memory = threading.active_count(), _rss_bytes()
        enqueues = [asyncio.create_task(render.enqueue_async(str(number))) for number in range(10_000)]
        await asyncio.sleep(0.5)
        # Those that wait for a thread are not with the threads either.
        assert offloading._threads("write")._work_queue.qsize() <= 4
        assert threading.active_count() <= threads + 4
        assert _rss_bytes() - memory < 100 << 20
        jobs = await asyncio.gather(*enqueues)
        assert len({job.id for job in jobs}) == 10_000
        assert threading.active_count() <= threads + 4

    holder = _holding(engine, 2)
    try:
        asyncio.run(main())
    finally:
        holder.wait()
    assert engine.counts()["pending"] == 10_001


def test_an_enqueue_that_is_cancelled_in_line_is_never_made(
    engine: Engine, render: JobHandle[[str, int], str]
) -> None:
    async def main() -> None:
        running = [asyncio.create_task(render.enqueue_async("running")) for _ in range(4)]
        await asyncio.sleep(0.1)
        given_up = [asyncio.create_task(render.enqueue_async("given up")) for _ in range(1_000)]
        last = asyncio.create_task(render.enqueue_async("last"))
        await asyncio.sleep(0.1)
        for each in [*given_up, running[0]]:
            each.cancel()
        assert {type(found) for found in await asyncio.gather(*given_up, return_exceptions=True)} == {
            asyncio.CancelledError
        }
        await asyncio.gather(last, *running[1:])

    engine.store.check(create=True)
    holder = _holding(engine, 1.5)
    try:
        asyncio.run(main())
    finally:
        holder.wait()
    paths = [job.payload["path"] for job in engine.list_jobs(limit=1000).items]
    assert paths.count("given up") == 0
    assert paths.count("last") == 1


def test_those_in_line_give_up_together_with_those_that_wait_for_the_store(
    engine: Engine, render: JobHandle[[str, int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after 30 s; and not while calls get through, however long the line is."""
    monkeypatch.setattr(offloading, "_PATIENCE_S", 1.5)

    async def main() -> list[object]:
        enqueues = [render.enqueue_async(str(number)) for number in range(200)]
        return list(await asyncio.gather(*enqueues, return_exceptions=True))

    engine.store.check(create=True)
    holder = _holding(engine, 4)
    try:
        found = asyncio.run(main())
    finally:
        holder.wait()
    busy = [each for each in found if isinstance(each, StoreBusy)]
    assert len(busy) == 196  # all but those that were with the store
    assert "for 30 s" in str(busy[0])
    assert engine.counts()["pending"] == 4
    # Slower than the patience as a whole, and each within it.
    real = engine.enqueue_as

    def slow(*args: Any) -> Job:
        time.sleep(0.1)
        return real(*args)

    monkeypatch.setattr(engine, "enqueue_as", slow)

    async def many() -> None:
        await asyncio.gather(*(render.enqueue_async(str(number)) for number in range(100)))

    asyncio.run(many())

"""An app as users have one: an engine in a module, with handlers, middleware and hooks. Its own store is never used."""

from __future__ import annotations

import asyncio
import threading
import time
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mpdispatch import (
    Cancel,
    Dispatcher,
    Engine,
    Retry,
    Snooze,
    SQLiteStore,
    backoff,
    current_engine,
    current_job,
    hooks,
    testing,
)
from mpdispatch.middleware import JobContext

STORE = Path("/nonexistent/never-opened/jobs.db")

request: ContextVar[str] = ContextVar("request", default="none")
"""As a web framework has one for the request that it serves."""

log: list[Any] = []
"""What handlers, middleware and hooks did; emptied before each test."""


def noted(job: JobContext, call_next: Any) -> Any:
    log.append(("in", job.name, job.attempt))
    try:
        return call_next(job)
    finally:
        log.append(("out", job.name))


class Recorder(hooks.Extension):
    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def on_job_enqueued(self, event: hooks.JobEnqueued) -> None:
        self.told.append(("enqueued", event.job_id))

    def on_job_started(self, event: hooks.JobStarted) -> None:
        self.told.append(("started", event.job_id))

    def on_job_completed(self, event: hooks.JobCompleted) -> None:
        self.told.append(("completed", event.job_id))

    def on_job_retrying(self, event: hooks.JobRetrying) -> None:
        self.told.append(("retrying", event.job_id))

    def on_job_dead_lettered(self, event: hooks.JobDeadLettered) -> None:
        self.told.append(("dead", event.job_id))
        if event.name == "alarming":
            current = engine.enqueue("add", a=40)
            self.told.append(("enqueued by a hook", current.id))


recorder = Recorder()
engine = Engine.build(
    Dispatcher(store=SQLiteStore(STORE), queues=["default", "bulk"], concurrency=2),
    middleware=[noted],
    extensions=[recorder],
    backoff=backoff.Constant(60),
)


@engine.job
def add(a: int, b: int = 2) -> int:
    return a + b


@engine.job(queue="bulk", max_retries=2)
def render(path: Path, dpi: int = 300, wait: timedelta | None = None) -> dict[str, Any]:
    current_job().progress(1, total=2, message=path.name)
    current_job().log(f"rendered {path.name}")
    return {"path": path, "is_path": isinstance(path, Path), "dpi": dpi}


@engine.job(max_retries=3)
def flaky(times: int) -> int:
    """Fails so many times."""
    if current_job().attempt <= times:
        raise ConnectionError(f"attempt {current_job().attempt}")
    return current_job().attempt


@engine.job(max_retries=0)
def alarming() -> None:
    raise LookupError("nothing there")


@engine.job
def steered(how: str) -> str:
    """Ends as it is told to, at its first start."""
    if current_job().fencing_token > 1:
        return f"start {current_job().fencing_token}, attempt {current_job().attempt}"
    match how:
        case "retry":
            raise Retry(delay=600)
        case "snooze":
            raise Snooze("1h")
        case "cancel":
            raise Cancel("not today")
        case "exit":
            raise SystemExit(3)
        case "unkept":
            return object()  # type: ignore[return-value]
    raise AssertionError(how)


@engine.job
def always_later() -> None:
    raise Snooze(1)


@engine.job
def parent(delay: float | None = None) -> str:
    child = add.options(delay=delay).enqueue(1)
    log.append(("child", str(child.state)))
    return str(child.state)


@engine.job
def waiting_parent() -> Any:
    child = add.enqueue(1)
    result = current_engine().wait(child.id).result
    return [result, current_job().name]


@engine.job
async def gathering(count: int) -> Any:
    children = [await async_add.enqueue_async(number) for number in range(count)]
    await asyncio.to_thread(time.sleep, 0)
    jobs = await asyncio.gather(*(engine.wait_async(child.id) for child in children))
    return [[job.result for job in jobs], engine.wait(async_add.enqueue(10).id).result, current_job().name]


@engine.job
async def async_add(a: int) -> int:
    await asyncio.sleep(0)
    return a + 1


@engine.job
def threaded() -> Any:
    """Enqueues on a thread of its own, and waits there."""
    found: list[Any] = []

    def work() -> None:
        found.append(engine.wait(add.enqueue(5).id).result)
        found.append(current_engine() is engine)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    return found


@engine.job(timeout=0.1, max_retries=0)
def slow() -> None:
    time.sleep(30)


@engine.job(timeout=0.1, max_retries=0)
async def async_slow() -> None:
    await asyncio.sleep(30)


@engine.job
def which_request() -> Any:
    before = request.get()
    request.set("of a handler")
    return before


@engine.job(max_retries=0)
def alarming_parent() -> None:
    alarming.enqueue()


@engine.job
def interrupted() -> None:
    raise KeyboardInterrupt


@engine.job
def skipping() -> None:
    pytest.skip("not here")


@engine.job(max_retries=0)
def draining() -> None:
    testing.drain(engine)


@engine.job
def move(queue: str) -> None:
    """It has an argument with the name of an option."""


@engine.job(max_retries=0)
def gather(parents: list[int]) -> list[Any]:
    return [engine.get_job(each).result for each in parents]


@engine.job(max_retries=0)
def report(batch: int) -> str:
    found = engine.store.batches.get(batch)
    log.append(("report", batch, found.counts["completed"], found.counts["failed"]))
    return f"{found.done} of {found.total}"


@engine.job(max_retries=0)
def picky(number: int) -> int:
    if number < 0:
        raise ValueError(number)
    return number


nightly_engine = Engine.build(Dispatcher(store=SQLiteStore(STORE)), extensions=[recorder])
"""Another one, whose schedules are not in the way of the other tests."""


@nightly_engine.cron("0 3 * * *", tz="Europe/Berlin", overlap="skip")
@nightly_engine.job
def nightly() -> str:
    slot = current_job().slot
    assert slot is not None
    return slot.isoformat()


@nightly_engine.cron("@startup")
@nightly_engine.job
def at_start() -> None:
    pass


is_mended: list[bool] = []


@engine.job(max_retries=0)
def fragile() -> None:
    if not is_mended:
        raise ValueError("still broken")


@engine.job
def adding_many(count: int) -> Any:
    batch = engine.enqueue_many("add", ({"a": number} for number in range(count)))
    batch.wait()
    return [each.result for each in batch.results()]


@nightly_engine.job
def enqueuing() -> None:
    at_start.enqueue()


@engine.job
def as_they_end(count: int) -> Any:
    jobs = [add.enqueue(number) for number in range(count)]
    return [job.result for job in engine.as_completed(jobs)]


_alone = threading.Lock()


@engine.job(max_retries=0)
def alone(number: int) -> int:
    """Fails if another one runs."""
    assert _alone.acquire(blocking=False)
    time.sleep(0.0005)
    assert current_job().name == "alone"
    _alone.release()
    return number


@engine.job
def scripted(steps: list[str]) -> int:
    """Ends its starts as the steps say, one after the other, and returns at the first start after them."""
    start = current_job().fencing_token
    if start > len(steps):
        return start
    match steps[start - 1]:
        case "fail":
            raise ValueError(f"start {start}")
        case "retry":
            raise Retry(delay=start)
        case "snooze":
            raise Snooze(start)
        case "cancel":
            raise Cancel("as scripted")
    raise AssertionError(steps)


@engine.job(max_retries=2, backoff=backoff.Constant(0))
def unsteady() -> str:
    current_job().log(f"attempt {current_job().attempt}")
    if current_job().attempt < 3:
        raise TimeoutError(f"no answer to attempt {current_job().attempt}")
    return "answered"


@engine.job(max_retries=1, backoff=backoff.Constant(0))
def hopeless() -> None:
    raise KeyError("nothing")


@engine.job
def mapping(count: int) -> list[int]:
    return list(engine.map(add, range(count)))

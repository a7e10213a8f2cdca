"""Async handlers: one loop per worker, one job at a time, interrupts as CancelledError, nothing left behind."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest

from mpdispatch.errors import Cancel, JobTimeout, Retry
from mpdispatch.execution import event_loop
from mpdispatch.execution.process_context import current_job
from mpdispatch.handlers.registry import JobDefinition
from mpdispatch.model import Cancelled, Completed, Raised, RetryAsked
from tests.execution.test_executor import Bench, claimed

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench() -> Iterator[Bench]:
    yield Bench()
    event_loop.take_reasons()
    event_loop.close()


@pytest.fixture
def alarm(bench: Bench) -> Iterator[Callable[[float], None]]:
    """`alarm(seconds)` interrupts the benched job then, from a real signal."""

    def strike(number: int, frame: FrameType | None) -> None:
        bench.executor.interrupt(7, 2, "timeout")

    old = signal.signal(signal.SIGALRM, strike)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds) and None
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


def test_an_async_handler_runs_to_its_end_and_knows_its_job(bench: Bench) -> None:
    async def add(a: int, b: int = 2) -> list[int]:
        await asyncio.sleep(0)
        current_job().progress(1)
        return [a + b, current_job().id]

    assert bench.run(add, b'{"a":1}').result == b"[3,7]"
    assert bench.reports.progressed[0][:2] == (7, 2)


def test_jobs_of_a_worker_share_one_loop(bench: Bench) -> None:
    loops: list[object] = []

    async def handler() -> None:
        loops.append(asyncio.get_running_loop())

    assert [type(bench.run(handler)) for _ in range(3)] == [Completed] * 3
    assert len(set(loops)) == 1


def test_an_async_handler_steers_its_job(bench: Bench) -> None:
    async def again() -> None:
        raise Retry(delay=1)

    async def cancel() -> None:
        raise Cancel("enough")

    assert isinstance(bench.run(again), RetryAsked)
    assert isinstance(bench.run(cancel), Cancelled)


@pytest.mark.parametrize(
    "error", [ValueError("x"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), JobTimeout("mine")]
)
def test_whatever_an_async_handler_raises_ends_only_its_job(bench: Bench, error: BaseException) -> None:
    async def handler() -> None:
        await asyncio.sleep(0)
        raise error

    async def fine() -> int:
        await asyncio.sleep(0)
        return 1

    outcome = bench.run(handler)
    assert isinstance(outcome, Raised)
    assert outcome.error.type.endswith(type(error).__name__)
    assert bench.run(fine).result == b"1"


def test_the_traceback_of_an_async_handler_begins_in_it(bench: Bench) -> None:
    async def handler() -> None:
        raise ValueError("here")

    lines = bench.run(handler).error.traceback.splitlines()
    assert "in handler" in lines[1]
    assert "mpdispatch/execution" not in "".join(lines)


def test_a_sys_exit_in_another_task_ends_the_job_and_not_the_loop(bench: Bench) -> None:
    async def exits() -> None:
        sys.exit(4)

    async def handler() -> None:
        task = asyncio.create_task(exits())
        await asyncio.wait({task})
        task.result()

    async def fine() -> int:
        return 1

    assert bench.run(handler).error.message == "handler called sys.exit(4)"
    assert bench.run(fine).result == b"1"


def test_decorated_partial_and_callable_async_handlers_run_too(bench: Bench) -> None:
    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    @functools.wraps(double)
    def decorated(n: int) -> Any:
        return double(n)

    @functools.wraps(double)
    def made_sync(n: int) -> Any:
        return asyncio.run(double(n))

    class Doubler:
        async def __call__(self, n: int) -> int:
            return await double(n)

    for number, function in enumerate((decorated, made_sync, functools.partial(double), Doubler())):
        name = f"job{number}"
        bench.registry.add(JobDefinition(name=name, function=function))
        outcome = bench.executor.run(claimed(name=name, payload=b'{"n":4}'))
        assert isinstance(outcome, Completed), outcome
        assert outcome.result == b"8"


def test_context_variables_of_one_job_are_not_seen_by_the_next(bench: Bench) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    async def handler() -> str:
        seen = variable.get()
        variable.set("set")
        return seen

    assert [bench.run(handler).result for _ in range(2)] == [b'"none"', b'"none"']


# ---------------------------------------------------------------- interrupts


@pytest.mark.parametrize(("kind", "name"), [("timeout", "JobTimeout"), ("cancel", "JobCancelled")])
def test_an_interrupt_is_a_cancelled_error_inside_and_its_kind_outside(
    bench: Bench, kind: Any, name: str
) -> None:
    seen: list[object] = []

    async def handler() -> None:
        bench.executor.interrupt(7, 2, kind)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            seen.append((type(error), current_job().is_cancelled))
            raise

    outcome = bench.run(handler)
    assert outcome.error.type == f"mpdispatch.errors.{name}"
    assert seen == [(asyncio.CancelledError, True)]
    assert "asyncio.sleep(60)" in outcome.error.traceback
    assert "mpdispatch/execution" not in outcome.error.traceback


def test_a_real_signal_wakes_a_loop_that_waits(bench: Bench, alarm: Callable[[float], None]) -> None:
    async def handler() -> None:
        alarm(0.02)
        await asyncio.Event().wait()

    assert bench.run(handler).error.type == "mpdispatch.errors.JobTimeout"


def test_an_async_handler_that_saves_its_work_completes(bench: Bench) -> None:
    async def handler() -> str:
        bench.executor.interrupt(7, 2, "cancel")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)  # a clean-up that awaits is not cancelled again
            return "saved"
        return "not interrupted"

    assert bench.run(handler).result == b'"saved"'


def test_an_interrupt_that_came_early_lets_no_line_of_an_async_handler_run(bench: Bench) -> None:
    ran: list[bool] = []

    async def handler() -> None:
        ran.append(True)

    bench.executor.interrupt(7, 2, "cancel")
    assert bench.run(handler).error.type == "mpdispatch.errors.JobCancelled"
    assert ran == []
    assert isinstance(bench.run(handler, starts=3), Completed)


def test_a_task_group_is_cancelled_as_a_whole(bench: Bench, alarm: Callable[[float], None]) -> None:
    ended: list[int] = []

    async def child(number: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(number)

    async def handler() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(child(number))
            alarm(0.02)

    assert bench.run(handler).error.type == "mpdispatch.errors.JobTimeout"
    assert sorted(ended) == [0, 1, 2]


def test_no_interrupt_at_any_moment_escapes_an_async_job_or_hits_another(bench: Bench) -> None:
    dice = random.Random(7)
    target = [0]
    kinds = {"completed": 0, "interrupted": 0}

    def strike(number: int, frame: FrameType | None) -> None:
        bench.executor.interrupt(target[0], 1, "timeout")

    async def handler(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    bench.registry.add(JobDefinition(name="handler", function=handler))
    bench.run(handler, b'{"turns":1}')  # the loop is there
    old = signal.signal(signal.SIGALRM, strike)
    try:
        for job_id in range(1, 2001):
            target[0] = job_id
            job = claimed(id=job_id, starts=1, payload=msgspec.json.encode({"turns": dice.randrange(30)}))
            signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-6, 4e-4))
            outcome = bench.executor.run(job)
            is_interrupted = isinstance(outcome, Raised)
            if is_interrupted:
                assert outcome.error.type == "mpdispatch.errors.JobTimeout", outcome
            kinds["interrupted" if is_interrupted else "completed"] += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert min(kinds.values()) > 50, kinds
    assert isinstance(bench.executor.run(claimed(id=99_999, payload=b'{"turns":1}')), Completed)
    assert bench.executor.recycle_reasons == []


# ---------------------------------------------------------------- what is left behind


def test_tasks_left_running_are_cancelled_and_reported(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    ended: list[bool] = []

    async def poll() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    kept: list[asyncio.Task[None]] = []

    async def handler() -> int:
        kept.append(asyncio.create_task(poll(), name="poller"))
        await asyncio.sleep(0)
        return 1

    with caplog.at_level(logging.WARNING, "mpdispatch.job"):
        assert bench.run(handler).result == b"1"
    assert ended == [True]
    assert "poller" in caplog.text
    assert not bench.executor.recycle_reasons


def test_a_task_that_ends_for_nothing_has_the_worker_replaced(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_loop, "_LEFTOVERS_S", 0.05)
    is_over = False
    kept: list[asyncio.Task[None]] = []
    runners: list[Any] = []

    async def stubborn() -> None:
        while not is_over:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    async def handler() -> int:
        runners.append(event_loop._runner)
        kept.append(asyncio.create_task(stubborn()))
        await asyncio.sleep(0)
        return 1

    assert bench.run(handler).result == b"1"
    assert "stubborn" in bench.executor.recycle_reasons[0]
    is_over = True
    kept[0].cancel()
    runners[0].loop.run_until_complete(kept[0])
    runners[0].close()


def test_threads_of_a_handler_are_gone_after_it_and_the_next_has_new_ones(bench: Bench) -> None:
    async def handler() -> str:
        return (await asyncio.to_thread(threading.current_thread)).name

    before = threading.active_count()
    for _ in range(3):
        assert isinstance(bench.run(handler), Completed)
        assert threading.active_count() == before
    assert not bench.executor.recycle_reasons


def test_the_signal_wakeup_of_the_process_is_as_it_was(bench: Bench) -> None:
    async def handler() -> None: ...

    bench.run(handler)
    assert signal.set_wakeup_fd(-1) == -1


# ---------------------------------------------------------------- cost


def test_a_worker_without_async_handlers_never_imports_asyncio() -> None:
    program = """
import sys
import mpdispatch.pool.worker
from mpdispatch.execution.codec import Limits
from mpdispatch.execution.executor import Executor
from mpdispatch.handlers.registry import JobDefinition, Registry
from mpdispatch.model import ClaimedJob
from mpdispatch import Engine
engine = Engine.open(sys.argv[1])
@engine.job
def plain(n: int) -> int: return n
executor = Executor(engine.registry, limits=Limits(), reporter=None, on_start=lambda *_: None)
outcome = executor.run(ClaimedJob(id=1, starts=1, attempt=1, name="plain", queue="q", priority=0, run_at_us=0,
    max_retries=0, timeout_us=None, idempotency_key=None, payload=b'{"n":1}'))
assert outcome.result == b"1", outcome
print([name for name in ("asyncio", "concurrent.futures", "pydantic") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, "unused.db"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "[]\n"


def test_an_async_job_costs_well_under_a_millisecond(bench: Bench) -> None:
    async def handler() -> None: ...

    bench.run(handler)
    best = min(_timed(lambda: bench.run(handler)) for _ in range(200))
    assert best < 1e-3  # measured: 0.1 ms


def _timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started

"""One job at a time, one outcome each, whatever the handler does and whenever it is interrupted."""

from __future__ import annotations

import _thread
import asyncio
import gc
import os
import random
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest

from mpdispatch.errors import Cancel, DispatchError, JobCancelled, JobInterrupt, JobTimeout, Retry, Snooze
from mpdispatch.execution import job_context, process_context
from mpdispatch.execution.codec import Limits
from mpdispatch.execution.entering import postponed
from mpdispatch.execution.executor import Executor
from mpdispatch.execution.job_context import JobContext
from mpdispatch.execution.process_context import current_job
from mpdispatch.handlers.registry import JobDefinition, Registry
from mpdispatch.model import Cancelled, ClaimedJob, Completed, Expired, Raised, RetryAsked, Snoozed, Stream
from tests.pool.probes import until


class Reports:
    def __init__(self) -> None:
        self.progressed: list[tuple[int, int, Any]] = []
        self.text = ""

    def progress(self, job_id: int, starts: int, data: bytes) -> None:
        self.progressed.append((job_id, starts, msgspec.json.decode(data)))

    def output(
        self, job_id: int, starts: int, stream: Stream, text: str, written: int, *, is_last: bool
    ) -> None:
        self.text += text


class Bench:
    """An executor with what it was told and what it told."""

    def __init__(self, **limits: int) -> None:
        self.registry, self.reports = Registry(), Reports()
        self.started: list[tuple[int, int]] = []
        self.executor = Executor(
            self.registry,
            limits=Limits(**limits),
            reporter=self.reports,
            on_start=lambda job_id, starts: self.started.append((job_id, starts)),
        )

    def run(self, function: Callable[..., Any], payload: bytes = b"{}", **fields: Any) -> Any:
        if function.__name__ not in self.registry.names():
            self.registry.add(JobDefinition(name=function.__name__, function=function))
        return self.executor.run(claimed(name=function.__name__, payload=payload, **fields))


def claimed(**fields: Any) -> ClaimedJob:
    plain = {
        "id": 7,
        "starts": 2,
        "attempt": 1,
        "name": "handler",
        "queue": "bulk",
        "priority": 0,
        "run_at_us": 0,
        "max_retries": 3,
        "timeout_us": None,
        "idempotency_key": "key",
        "payload": b"{}",
    }
    return ClaimedJob(**(plain | fields))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_return_value_completes_the_job_with_its_figures(bench: Bench) -> None:
    def add(a: int, b: int = 2) -> int:
        time.sleep(0.01)
        return a + b

    before_us = time.time_ns() // 1000
    outcome = bench.run(add, b'{"a":1}')
    assert isinstance(outcome, Completed)
    assert outcome.result == b"3"
    assert before_us <= outcome.run.started_us <= time.time_ns() // 1000
    assert (outcome.run.duration_us or 0) >= 10_000
    assert outcome.run.worker_pid == os.getpid()
    assert (outcome.run.max_rss_bytes or 0) > 1 << 20
    assert outcome.run.cpu_us is not None
    assert bench.started == [(7, 2)]


def test_a_job_that_has_expired_is_not_begun(bench: Bench) -> None:
    called = list[datetime | None]()

    def handler() -> None:
        called.append(current_job().slot)

    now_us = time.time_ns() // 1000
    outcome = bench.run(handler, expires_at_us=now_us)
    assert isinstance(outcome, Expired)
    assert (outcome.run, outcome.error.type) == (None, "JobExpired")
    assert (bench.started, called) == ([], [])
    assert isinstance(bench.run(handler, expires_at_us=now_us + 60_000_000, slot_us=60_000_000), Completed)
    assert called == [datetime(1970, 1, 1, 0, 1, tzinfo=UTC)]


class Custom(BaseException):
    pass


def recurse(n: int = 0) -> int:
    return recurse(n + 1) + 1


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("bad"), "ValueError", "bad"),
        (SystemExit(0), "SystemExit", "handler called sys.exit(0)"),
        (SystemExit(), "SystemExit", "handler called sys.exit()"),
        (KeyboardInterrupt(), "KeyboardInterrupt", ""),
        (GeneratorExit(), "GeneratorExit", ""),
        (BaseExceptionGroup("g", [KeyboardInterrupt()]), "BaseExceptionGroup", "g (1 sub-exception)"),
        (asyncio.CancelledError(), "asyncio.exceptions.CancelledError", ""),
        (Custom("x"), f"{__name__}.Custom", "x"),
        (JobTimeout("mine"), "mpdispatch.errors.JobTimeout", "mine"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_a_handler_raises_is_an_outcome(
    bench: Bench, error: BaseException, kind: str, message: str
) -> None:
    def handler() -> None:
        raise error

    outcome = bench.run(handler)
    assert isinstance(outcome, Raised)
    assert (outcome.error.type, outcome.error.message, outcome.is_retryable) == (kind, message, True)
    assert outcome.run.duration_us is not None


def test_endless_recursion_is_an_outcome(bench: Bench) -> None:
    outcome = bench.run(recurse)
    assert isinstance(outcome, Raised)
    assert outcome.error.type == "RecursionError"


def test_running_out_of_memory_asks_for_a_new_worker(bench: Bench) -> None:
    def handler() -> None:
        raise MemoryError

    assert isinstance(bench.run(handler), Raised)
    assert bench.executor.recycle_reasons


def test_the_traceback_begins_in_the_handler(bench: Bench) -> None:
    def handler() -> None:
        raise ValueError("here")

    lines = bench.run(handler).error.traceback.splitlines()
    assert "in handler" in lines[1]
    assert "mpdispatch/execution" not in "".join(lines)


def test_a_handler_steers_its_job(bench: Bench) -> None:
    def again() -> None:
        raise Retry("later", delay=1.5)

    def as_backoff_says() -> None:
        raise Retry

    def snooze() -> None:
        raise Snooze(2)

    def cancel() -> None:
        raise Cancel("not needed")

    def for_ever() -> None:
        raise Snooze(1e300)

    outcome = bench.run(again)
    assert isinstance(outcome, RetryAsked)
    assert (outcome.delay_us, outcome.error.message) == (1_500_000, "later")
    assert bench.run(as_backoff_says).delay_us is None
    outcome = bench.run(snooze)
    assert isinstance(outcome, Snoozed)
    assert outcome.delay_us == 2_000_000
    outcome = bench.run(cancel)
    assert isinstance(outcome, Cancelled)
    assert outcome.error.message == "not needed"
    # Added to any time of day it must still be a 64-bit integer.
    assert time.time_ns() // 1000 + bench.run(for_ever).delay_us < 1 << 63


def test_trying_again_is_not_offered_where_it_cannot_help(bench: Bench) -> None:
    def nan() -> float:
        return float("nan")

    def wants_int(n: int) -> None: ...

    outcomes = [
        bench.run(nan),
        bench.run(wants_int, b'{"n":"x"}'),
        bench.run(wants_int, b"\xff"),
        bench.executor.run(claimed(name="nobody")),
    ]
    assert [outcome.error.type.rpartition(".")[2] for outcome in outcomes] == [
        "ResultError",
        "PayloadError",
        "PayloadError",
        "UnknownJobError",
    ]
    assert [outcome.is_retryable for outcome in outcomes] == [False] * 4


def test_limits_are_kept_in_the_worker_too() -> None:
    bench = Bench(max_payload_bytes=10, max_result_bytes=10)

    def echo(text: str = "") -> str:
        return text or "x" * 20

    outcome = bench.run(echo, b'{"text":"abc"}')
    assert "max_payload_bytes" in outcome.error.message
    assert "max_result_bytes" in bench.run(echo).error.message


def test_the_start_is_marked_before_any_code_of_the_job_runs(bench: Bench) -> None:
    seen: list[bool] = []

    @dataclass
    class Argument:
        x: int

        def __post_init__(self) -> None:
            seen.append(bool(bench.started))

    def handler(value): ...  # type: ignore[no-untyped-def]

    handler.__annotations__ = {"value": Argument}
    assert isinstance(bench.run(handler, b'{"value":{"x":1}}'), Completed)
    assert seen == [True]


def test_a_failing_start_mark_is_an_outcome(bench: Bench) -> None:
    def on_start(job_id: int, starts: int) -> None:
        raise OSError("no space")

    executor = Executor(Registry(), limits=Limits(), reporter=Reports(), on_start=on_start)
    outcome = executor.run(claimed())
    assert isinstance(outcome, Raised)
    assert outcome.error.message == "no space"


# ---------------------------------------------------------------- references


@pytest.fixture
def late_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = f"late_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(
        textwrap.dedent("""
            def shout(text: str) -> str:
                return text.upper()
        """)
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def test_an_unknown_handler_is_imported_by_its_reference(bench: Bench, late_module: str) -> None:
    job = claimed(name="shout", payload=b'{"text":"a"}')
    outcome = bench.executor.run(job, f"{late_module}:shout")
    assert isinstance(outcome, Completed)
    assert outcome.result == b'"A"'
    assert isinstance(bench.executor.run(job), Completed)


def test_a_reference_that_does_not_import_may_be_tried_again(bench: Bench) -> None:
    outcome = bench.executor.run(claimed(name="shout"), "no_such_module_here:shout")
    assert isinstance(outcome, Raised)
    assert outcome.error.type == "mpdispatch.errors.AppImportError"
    assert outcome.is_retryable


# ---------------------------------------------------------------- context


def test_the_handler_sees_its_job(bench: Bench) -> None:
    seen: list[JobContext] = []

    def handler() -> None:
        seen.append(current_job())
        thread = threading.Thread(target=lambda: seen.append(current_job()))
        thread.start()
        thread.join()

    assert isinstance(bench.run(handler, timeout_us=60_000_000, attempt=2), Completed)
    process_context, from_thread = seen
    assert from_thread is process_context
    assert (process_context.id, process_context.name, process_context.queue, process_context.attempt) == (
        7,
        "handler",
        "bulk",
        2,
    )
    assert (process_context.max_retries, process_context.idempotency_key, process_context.fencing_token) == (
        3,
        "key",
        2,
    )
    assert process_context.deadline is not None
    assert 50 < process_context.deadline.timestamp() - time.time() <= 60
    assert not process_context.is_cancelled


def test_outside_of_a_job_there_is_no_current_job(bench: Bench) -> None:
    bench.run(idle)
    with pytest.raises(DispatchError, match="inside a handler"):
        current_job()


def idle() -> None: ...


def test_progress_is_throttled_and_the_last_one_is_always_sent(bench: Bench) -> None:
    def handler() -> None:
        for page in range(1000):
            current_job().progress(page, total=1000, message="page")

    started_s = time.monotonic()
    assert isinstance(bench.run(handler), Completed)
    sent = bench.reports.progressed
    assert sent[0] == (7, 2, {"done": 0, "total": 1000, "message": "page"})
    assert sent[-1] == (7, 2, {"done": 999, "total": 1000, "message": "page"})
    assert len(sent) <= 2 + 10 * (time.monotonic() - started_s)


def test_what_was_held_back_is_sent_though_the_handler_falls_silent(bench: Bench) -> None:
    def handler() -> None:
        for done in range(3):
            current_job().progress(done)
        for line in range(50):  # more than go at once
            current_job().log(f"line {line}")
        until(lambda: bench.reports.progressed[-1][2]["done"] == 2, what="the last progress")
        until(lambda: bench.reports.text.endswith("line 49\n"), what="the last line")

    outcome = bench.run(handler)
    assert isinstance(outcome, Completed), outcome
    assert len(bench.reports.progressed) == 2


def test_one_thread_sends_what_many_jobs_held_back_and_ends_when_none_does(bench: Bench) -> None:
    def handler() -> int:
        for done in range(3):
            current_job().progress(done)
        return _thread._count()

    until(lambda: not job_context._later._is_running)  # another test's
    before = _thread._count()
    most = max(int(bench.run(handler).result) for _ in range(100))
    assert most <= before + 1
    sent = list(bench.reports.progressed)
    assert [each[2]["done"] for each in sent] == [0, 2] * 100
    until(lambda: _thread._count() <= before, what="the thread to end")
    assert bench.reports.progressed == sent, "the end had sent all"


def test_without_a_thread_to_be_had_it_goes_with_the_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    def handler() -> None:
        for done in range(3):
            current_job().progress(done)

    until(lambda: not job_context._later._is_running)
    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    assert isinstance(bench.run(handler), Completed)
    assert [each[2]["done"] for each in bench.reports.progressed] == [0, 2]


def test_a_fork_of_the_handler_may_report_whatever_other_threads_were_doing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_context, "_is_copy", False)

    def handler() -> None:
        job = current_job()
        job._lock.acquire()  # as another thread would at the moment of the fork
        job_context._later._lock.acquire()
        process_context._became_copy()
        job.progress(1)
        job.progress(2)
        until(lambda: len(bench.reports.progressed) == 2)

    assert isinstance(bench.run(handler), Completed)


def test_progress_after_the_end_is_dropped(bench: Bench) -> None:
    kept: list[JobContext] = []

    def handler() -> None:
        kept.append(current_job())

    bench.run(handler)
    kept[0].progress(1)
    assert bench.reports.progressed == []


@pytest.mark.parametrize("done", [float("nan"), float("inf"), -1, "1"])
def test_progress_takes_only_finite_numbers(bench: Bench, done: Any) -> None:
    def handler() -> None:
        current_job().progress(done)

    assert bench.run(handler).error.type == "mpdispatch.errors.UsageError"


def test_progress_with_half_a_surrogate_is_sent_escaped(bench: Bench) -> None:
    def handler() -> None:
        current_job().progress(1, message="\ud800")

    assert isinstance(bench.run(handler), Completed)
    assert bench.reports.progressed[0][2]["message"] == "\\ud800"


# ---------------------------------------------------------------- interrupts


@pytest.mark.parametrize(("kind", "error"), [("timeout", JobTimeout), ("cancel", JobCancelled)])
def test_an_interrupt_ends_the_handler_with_its_kind(
    bench: Bench, kind: Any, error: type[JobInterrupt]
) -> None:
    cleaned: list[bool] = []

    def handler() -> None:
        try:
            bench.executor.interrupt(7, 2, kind)
        finally:
            cleaned.append(current_job().is_cancelled)

    outcome = bench.run(handler)
    assert isinstance(outcome, Raised)
    assert outcome.error.type == f"mpdispatch.errors.{error.__name__}"
    assert cleaned == [True]


def test_a_handler_that_swallows_the_interrupt_completes(bench: Bench) -> None:
    def handler() -> str:
        try:
            bench.executor.interrupt(7, 2, "cancel")
        except JobCancelled:
            bench.executor.interrupt(7, 2, "cancel")  # a second one of the same start raises no more
            return "saved"
        return "not interrupted"

    assert bench.run(handler).result == b'"saved"'


def test_an_interrupt_for_another_start_does_nothing(bench: Bench) -> None:
    def handler() -> bool:
        bench.executor.interrupt(7, 1, "timeout")
        bench.executor.interrupt(8, 2, "timeout")
        return current_job().is_cancelled

    assert bench.run(handler).result == b"false"


def test_an_interrupt_that_came_early_strikes_at_the_first_line(bench: Bench) -> None:
    ran: list[bool] = []

    def handler() -> None:
        ran.append(True)

    bench.executor.interrupt(7, 2, "cancel")
    outcome = bench.run(handler)
    assert (outcome.error.type, ran) == ("mpdispatch.errors.JobCancelled", [])
    assert isinstance(bench.run(handler, starts=3), Completed)


def test_an_interrupt_from_a_real_signal_wakes_a_sleeping_handler(bench: Bench) -> None:
    def strike(number: int, frame: FrameType | None) -> None:
        bench.executor.interrupt(7, 2, "timeout")

    def handler() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        time.sleep(60)

    old = signal.signal(signal.SIGALRM, strike)
    try:
        outcome = bench.run(handler)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert outcome.error.type == "mpdispatch.errors.JobTimeout"
    # It tells where the job was, not where we raise.
    assert "time.sleep(60)" in outcome.error.traceback
    assert "mpdispatch/execution" not in outcome.error.traceback


@pytest.fixture
def no_gc_callbacks() -> Iterator[None]:
    """hypothesis has one; an interrupt within it is lost, as nothing can raise from there."""
    callbacks = gc.callbacks[:]
    gc.callbacks.clear()
    yield
    gc.callbacks[:] = callbacks


@pytest.mark.usefixtures("no_gc_callbacks")
def test_no_interrupt_at_any_moment_escapes_or_hits_another_job(bench: Bench) -> None:
    """Signals strike at random moments around thousands of short jobs, each aimed at one of them."""
    dice = random.Random(5)
    target = [0]
    escaped: list[BaseException] = []
    kinds = {"completed": 0, "interrupted": 0}

    def strike(number: int, frame: FrameType | None) -> None:
        if not postponed(signal.SIGUSR1, frame):
            bench.executor.interrupt(target[0], 1, "timeout")

    def handler(turns: int, fails: bool) -> int:
        total = 0
        for number in range(turns):
            total += number
            if number % 8 == 0:
                current_job().progress(number)  # holds a lock, which an interrupt must not leave held
        if fails:
            raise ValueError("the window shuts in an except clause then")
        return total

    bench.registry.add(JobDefinition(name="handler", function=handler))
    # What is postponed may come when this test is over: not as the alarm that ends slow tests, and to no harm.
    signal.signal(signal.SIGUSR1, strike)
    old = signal.signal(signal.SIGALRM, strike)
    try:
        for job_id in range(1, 4001):
            target[0] = job_id
            payload = msgspec.json.encode({"turns": dice.randrange(60), "fails": dice.random() < 0.5})
            job = claimed(id=job_id, starts=1, payload=payload)
            signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-6, 4e-5))
            try:
                outcome = bench.executor.run(job)
            except BaseException as error:  # what must not happen
                escaped.append(error)
                continue
            is_interrupted = isinstance(outcome, Raised) and outcome.error.type.endswith("JobTimeout")
            kinds["interrupted" if is_interrupted else "completed"] += 1
            if not is_interrupted:
                assert isinstance(outcome, Completed) or outcome.error.type == "ValueError"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert escaped == []
    assert min(kinds.values()) > 50, kinds  # both sides of the window were hit
    assert isinstance(bench.executor.run(claimed(id=99_999, payload=b'{"turns":1,"fails":false}')), Completed)


def test_a_fork_that_comes_back_into_the_executor_ends(bench: Bench, tmp_path: Path) -> None:
    def handler() -> int:
        return os.fork()

    outcome = bench.run(handler)
    child = int(outcome.result)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 70

"""Middleware runs around every handler, first = outermost, and sees what a handler does."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from mpdispatch import ConfigError, middleware
from mpdispatch.errors import JobTimeout, Retry, Snooze, UsageError
from mpdispatch.execution.codec import Limits
from mpdispatch.execution.executor import Executor
from mpdispatch.execution.job_context import JobContext
from mpdispatch.execution.middleware import checked_middleware, default_timeout_s
from mpdispatch.execution.telemetry import Telemetry
from mpdispatch.handlers.registry import JobDefinition, Registry
from mpdispatch.model import ClaimedJob, Completed, Raised, RetryAsked


class Silent:
    def progress(self, job_id: int, starts: int, data: bytes) -> None: ...
    def output(
        self, job_id: int, starts: int, stream: Any, text: str, written: int, *, is_last: bool
    ) -> None: ...


def run(function: Callable[..., Any], *around: Any, payload: bytes = b"{}") -> Any:
    registry = Registry()
    registry.add(JobDefinition(name="job", function=function))
    used = Telemetry().around_handlers(checked_middleware(around))
    executor = Executor(registry, limits=Limits(), reporter=Silent(), on_start=lambda *_: None, middleware=used)
    return executor.run(ClaimedJob(7, 2, 1, "job", "bulk", 0, 0, 3, None, None, payload=payload))


def test_the_first_is_outermost_and_all_see_the_job_and_the_result() -> None:
    seen: list[Any] = []

    def outer(job: JobContext, call_next: middleware.CallNext) -> Any:
        seen.append(("outer", job.id, job.name))
        result = call_next(job)
        seen.append(("outer", result))
        return result + 1

    class Inner:
        def __call__(self, job: JobContext, call_next: middleware.CallNext) -> Any:
            seen.append(("inner", job.attempt))
            return call_next(job) * 10

    def handler(n: int) -> int:
        seen.append("handler")
        return n

    outcome = run(handler, outer, Inner(), payload=b'{"n":4}')
    assert msgspec.json.decode(outcome.result) == 41
    assert seen == [("outer", 7, "job"), ("inner", 1), "handler", ("outer", 40)]


def test_middleware_may_answer_instead_of_the_handler_and_steer_the_job() -> None:
    assert run(lambda: pytest.fail("called"), lambda job, call_next: "cached").result == b'"cached"'

    def again(job: JobContext, call_next: middleware.CallNext) -> Any:
        raise Retry("not now", delay=3)

    assert isinstance(run(lambda: 1, again), RetryAsked)


def test_what_middleware_raises_ends_its_job_only() -> None:
    def broken(job: JobContext, call_next: middleware.CallNext) -> Any:
        call_next(job)
        raise LookupError("mine")

    outcome = run(lambda: 1, broken)
    assert isinstance(outcome, Raised)
    assert outcome.error.message == "mine"


def test_an_executor_without_middleware_calls_the_handler_directly() -> None:
    passive = (middleware.Timeout(3), middleware.Metrics(), middleware.Tracing())
    assert Telemetry().around_handlers(passive) == ()


def broken_thing(job: object) -> None: ...
async def async_thing(job: object, call_next: object) -> None: ...


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ([middleware.Recover], r"middleware\[0\]: is the class Recover, not one of it"),
        ([middleware.Recover(), 3], r"middleware\[1\]: must be callable"),
        ([async_thing], "is async; middleware is synchronous"),
        ([broken_thing], "must take two arguments"),
        ("logging", "must be a list of middleware"),
        (middleware.Recover(), "must be a list of middleware"),
    ],
)
def test_what_is_no_middleware_is_refused_by_its_place(given: Any, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        checked_middleware(given)


# ---------------------------------------------------------------- what comes with us


def test_logging_tells_the_end_and_how_long_it_took(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    run(lambda: 1, middleware.Logging())
    started, completed = caplog.records
    assert (started.levelno, completed.levelno, completed.name) == (10, 20, "mpdispatch.job")
    assert completed.message.startswith("job 7 job completed in ")
    assert completed.__dict__["job_queue"] == "bulk"
    assert completed.__dict__["duration_s"] >= 0


@pytest.mark.parametrize(
    ("error", "level"), [(ValueError("secret\n"), "WARNING"), (Snooze(1), "INFO"), (SystemExit(1), "WARNING")]
)
def test_logging_tells_how_a_job_ended_and_not_what_it_said(
    caplog: pytest.LogCaptureFixture, error: BaseException, level: str
) -> None:
    def handler() -> None:
        raise error

    caplog.set_level(logging.INFO)
    run(handler, middleware.Logging(logging.getLogger("shop")))
    (record,) = (each for each in caplog.records if "ended" in each.message)
    assert (record.levelname, record.name) == (level, "shop")
    assert type(error).__name__ in record.message
    assert "secret" not in record.message


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SystemExit(3), "handler called sys.exit(3)"),
        (SystemExit(), "handler called sys.exit()"),
        (KeyboardInterrupt(), "handler raised KeyboardInterrupt"),
    ],
)
def test_recover_shows_the_middleware_outside_of_it_an_exception(error: BaseException, text: str) -> None:
    seen: list[str] = []

    def outer(job: JobContext, call_next: middleware.CallNext) -> Any:
        try:
            return call_next(job)
        except Exception as error:
            seen.append(str(error))
            raise

    def handler() -> None:
        raise error

    outcome = run(handler, outer, middleware.Recover())
    assert seen == [text]
    assert outcome.error.message == text


@pytest.mark.parametrize("error", [ValueError("x"), JobTimeout("late"), Retry("r")])
def test_recover_lets_exceptions_and_interrupts_pass(error: BaseException) -> None:
    def handler() -> None:
        raise error

    with pytest.raises(type(error)):
        middleware.Recover()(None, lambda job: handler())  # type: ignore[arg-type]


def test_of_several_timeouts_the_shortest_is_the_default() -> None:
    assert default_timeout_s([middleware.Timeout(60), middleware.Recover(), middleware.Timeout(5)]) == 5
    assert default_timeout_s([middleware.Recover()]) is None


@pytest.mark.parametrize("seconds", [0, -1, "soon", float("inf"), float("nan")])
def test_a_timeout_is_more_than_zero_seconds(seconds: Any) -> None:
    with pytest.raises(ConfigError, match="Timeout"):
        middleware.Timeout(seconds)


def test_a_scope_is_entered_per_job_and_left_whatever_happens() -> None:
    log: list[Any] = []

    @contextlib.contextmanager
    def session() -> Iterator[int]:
        log.append("open")
        try:
            yield len(log)
        except ValueError as error:
            log.append(str(error))
            raise
        finally:
            log.append("close")

    scope = middleware.Scope(session)

    def fails() -> None:
        log.append(scope.current)
        raise ValueError("oops")

    assert isinstance(run(fails, scope), Raised)
    assert log == ["open", 1, "oops", "close"]
    assert run(lambda: scope.current, scope).result == b"5"
    with pytest.raises(UsageError, match="only while a job runs"):
        _ = scope.current


def test_a_scope_may_take_the_job_and_swallow_an_error() -> None:
    outcome = run(lambda: 1 / 0, middleware.Scope(lambda job: contextlib.suppress(ZeroDivisionError)))
    assert isinstance(outcome, Completed)
    assert outcome.result == b"null"
    scope = middleware.Scope(lambda job: contextlib.nullcontext(job.name))
    assert run(lambda: scope.current, scope).result == b'"job"'
    with pytest.raises(ConfigError, match="give what makes one"):
        middleware.Scope(contextlib.nullcontext())  # type: ignore[arg-type]

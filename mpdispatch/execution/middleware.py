"""Middleware: code around every handler, the first outermost; and the built-in ones. Runs in the worker process.

    Engine.build(dispatcher, middleware=[middleware.Logging(), my_function])

    def my_function(job, call_next):      # job: the JobContext, as `current_job()` gives it
        with something(job.name):
            return call_next(job)         # gives what the handler returned, or raises what it raised

The chain is built once per worker. Without middleware a handler is called directly.
"""

from __future__ import annotations

import inspect
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Protocol, TypeAlias

from mpdispatch.errors import Cancel, ConfigError, Fault, JobInterrupt, Retry, Snooze, UsageError
from mpdispatch.execution.job_context import JobContext
from mpdispatch.policy.durations import parse_duration
from mpdispatch.policy.names import shown

CallNext: TypeAlias = Callable[[JobContext], Any]


class Middleware(Protocol):
    """Called around a handler. A plain function will do."""

    def __call__(self, job: JobContext, call_next: CallNext, /) -> Any:
        """Return what `call_next(job)` returns, or something else instead."""
        ...


def stacked(middleware: Iterable[Middleware], innermost: CallNext) -> CallNext:
    """A call that runs `innermost` inside all of these, the first outermost."""
    call = innermost
    for each in reversed(tuple(middleware)):
        call = _around(each, call)
    return call


def _around(middleware: Middleware, call_next: CallNext) -> CallNext:
    def step(job: JobContext) -> Any:
        return middleware(job, call_next)

    return step


def checked_middleware(given: object) -> tuple[Middleware, ...]:
    """The middleware of an engine. Raises ConfigError, naming everything wrong with it."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        text = f"must be a list of middleware, not {shown(given)}"
        raise ConfigError([Fault("middleware", text)])
    found = tuple(given)
    faults = [
        Fault(f"middleware[{index}]", fault)
        for index, each in enumerate(found)
        if (fault := _fault_of(each)) is not None
    ]
    if faults:
        raise ConfigError(faults)
    return found


def _fault_of(thing: object) -> str | None:
    if isinstance(thing, type):
        return f"is the class {thing.__name__}, not one of it; write {thing.__name__}(...)"
    if not callable(thing):
        return f"must be callable as middleware(job, call_next), not {shown(thing)}"
    if inspect.iscoroutinefunction(thing) or inspect.iscoroutinefunction(getattr(thing, "__call__", None)):  # noqa: B004 - its kind is asked for, not whether it is there
        return "is async; middleware is synchronous, also around an async handler"
    try:
        inspect.signature(thing).bind(None, None)
    except TypeError:
        return "must take two arguments: (job, call_next)"
    except ValueError:
        return None  # a callable of C has no signature to check
    return None


# ---------------------------------------------------------------- built in


class Logging:
    """Logs each start (debug), and each end with its duration: info, or warning if the handler raised.

    `logger` defaults to `mpdispatch.job`. Arguments and results are never logged.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        if logger is not None and not isinstance(logger, logging.Logger | logging.LoggerAdapter):
            raise ConfigError([Fault("logger", f"must be a logging.Logger, not {shown(logger)}")])
        self._logger = logging.getLogger("mpdispatch.job") if logger is None else logger

    def __call__(self, job: JobContext, call_next: CallNext, /) -> Any:
        facts: dict[str, Any] = {
            "job_id": job.id,
            "job_name": job.name,
            "job_queue": job.queue,
            "job_attempt": job.attempt,
        }
        self._logger.debug("job %d %s started (attempt %d)", job.id, job.name, job.attempt, extra=facts)
        began_s = time.perf_counter()
        try:
            result = call_next(job)
        except BaseException as error:
            # Only the class: the text may be anything, line breaks included, and is kept with the attempt.
            facts |= {"duration_s": time.perf_counter() - began_s, "error_type": type(error).__name__}
            self._logger.log(
                logging.INFO if isinstance(error, Retry | Snooze | Cancel) else logging.WARNING,
                "job %d %s ended with %s after %.3f s (attempt %d of %d)",
                job.id,
                job.name,
                facts["error_type"],
                facts["duration_s"],
                job.attempt,
                job.max_retries + 1,
                extra=facts,
            )
            raise
        facts["duration_s"] = duration_s = time.perf_counter() - began_s
        self._logger.info("job %d %s completed in %.3f s", job.id, job.name, duration_s, extra=facts)
        return result


class Recover:
    """Turns SystemExit, KeyboardInterrupt and the like into a RuntimeError, for the middleware outside of it.

    Without it such an error ends only the job, too. Timeouts and cancels pass unchanged.
    """

    def __call__(self, job: JobContext, call_next: CallNext, /) -> Any:
        try:
            return call_next(job)
        except (Exception, JobInterrupt):
            raise
        except SystemExit as error:
            code = "" if error.code is None else repr(error.code)
            raise RuntimeError(f"handler called sys.exit({code})") from error
        except BaseException as error:
            raise RuntimeError(f"handler raised {type(error).__name__}") from error


class _NoStep:
    """Middleware that only holds a setting for the engine. A worker leaves it out of the chain."""

    def __call__(self, job: JobContext, call_next: CallNext, /) -> Any:
        return call_next(job)


class Timeout(_NoStep):
    """A timeout for jobs that have none of their own, in seconds or as a timedelta. Of several, the shortest counts.

    The supervisor enforces it in the same way as a job's own.
    """

    def __init__(self, seconds: float | timedelta | str) -> None:
        try:
            self.seconds = parse_duration(seconds)
        except UsageError as error:
            raise ConfigError([Fault("Timeout", str(error))]) from None
        if not 0 < self.seconds < math.inf:
            raise ConfigError([Fault("Timeout", f"must be more than zero seconds, not {shown(seconds)}")])


class Tracing(_NoStep):
    """An OpenTelemetry span around each run, in the trace of the enqueue.

    An engine with a tracer provider (its own or the global one) adds one by itself, outermost. List it in `middleware`
    to have it elsewhere in the order. It does nothing where opentelemetry-api is not installed.
    """

    def __init__(self, tracer_provider: Any = None) -> None:
        self.tracer_provider = tracer_provider


class Metrics(_NoStep):
    """OpenTelemetry counts and durations of jobs.

    An engine with a meter provider (its own or the global one) records them without this. They are recorded where
    outcomes are committed, so timeouts and crashes count too. It does nothing where opentelemetry-api is not installed.
    """

    def __init__(self, meter_provider: Any = None) -> None:
        self.meter_provider = meter_provider


class Scope:
    """A resource per job: entered before the handler, left after it, also if the handler raises.

        session = middleware.Scope(lambda: Session(database))

        @engine.job
        def settle(order: int) -> None:
            session.current.execute(...)

    `factory` takes nothing or the JobContext, and returns a context manager. As in a `with` statement, the context
    manager sees what the handler raised (a timeout included) and may suppress it; the result is then None.
    """

    def __init__(self, factory: Callable[..., AbstractContextManager[Any]]) -> None:
        if not callable(factory):
            hint = "; a context manager itself can be used once only: give what makes one"
            is_manager = hasattr(factory, "__exit__")
            raise ConfigError([Fault("Scope", f"must be callable{hint if is_manager else ''}")])
        self._factory = factory
        self._takes_job = _takes_one(factory)
        self._entered: list[Any] = []

    @property
    def current(self) -> Any:
        """The value of this job's context manager (what follows `as` in a `with`).

        Raises UsageError: no job runs inside of this scope now.
        """
        if not self._entered:
            raise UsageError(
                "Scope.current is there only while a job runs inside of it; "
                "is it in middleware=[...] of the engine?"
            )
        return self._entered[-1]

    def __call__(self, job: JobContext, call_next: CallNext, /) -> Any:
        with self._factory(job) if self._takes_job else self._factory() as value:
            self._entered.append(value)
            try:
                return call_next(job)
            finally:
                self._entered.pop()
        return None


def _takes_one(factory: Callable[..., Any]) -> bool:
    """Whether the factory needs an argument."""
    try:
        inspect.signature(factory).bind()
    except TypeError:
        return True
    except ValueError:
        return False  # a callable of C without a signature
    return False


def default_timeout_s(middleware: Sequence[Middleware]) -> float | None:
    """The timeout of jobs without one, if any of these sets one."""
    return min((each.seconds for each in middleware if isinstance(each, Timeout)), default=None)

"""What runs around every handler, in the worker, first = outermost; and the middleware that comes with us.

    Engine.build(dispatcher, middleware=[middleware.Logging(), my_function])

    def my_function(job, call_next):      # job: the JobContext, as `current_job()` gives it
        with something(job.name):
            return call_next(job)         # what the handler returned; it may raise whatever a handler raises

The chain is put together once per worker; a job without middleware pays nothing for it.
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

__all__ = [
    "CallNext",
    "Logging",
    "Metrics",
    "Middleware",
    "Recover",
    "Scope",
    "Timeout",
    "Tracing",
    "checked_middleware",
    "default_timeout_s",
    "stacked",
]

CallNext: TypeAlias = Callable[[JobContext], Any]


class Middleware(Protocol):
    """Called around a handler. A plain function will do."""

    def __call__(self, job: JobContext, call_next: CallNext, /) -> Any:
        """Give what `call_next(job)` gives, or something else instead."""
        ...


def stacked(middleware: Iterable[Middleware], innermost: CallNext) -> CallNext:
    """One call that runs `innermost` within all of these, the first outermost."""
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
        return None  # a callable of C without a signature: it will show
    return None


# ---------------------------------------------------------------- what comes with us


class Logging:
    """Logs each start (debug), and each end with its duration: info, or warning if the handler raised.

    `logger` defaults to `mpdispatch.job`. Arguments and results are never logged.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        if logger is not None and not isinstance(logger, logging.Logger | logging.LoggerAdapter):
            raise ConfigError([Fault("logger", f"must be a logging.Logger, not {shown(logger)}")])
        self._logger = logging.getLogger("mpdispatch.job") if logger is None else logger

    def __call__(self, job: JobContext, call_next: CallNext, /) -> Any:
        facts = {
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
            self._tell_end(job, error, time.perf_counter() - began_s, facts)
            raise
        duration_s = time.perf_counter() - began_s
        self._logger.info(
            "job %d %s completed in %.3f s",
            job.id,
            job.name,
            duration_s,
            extra={**facts, "duration_s": duration_s},
        )
        return result

    def _tell_end(
        self, job: JobContext, error: BaseException, duration_s: float, facts: dict[str, object]
    ) -> None:
        # Its text may be anything, line breaks included, and stands with the attempt: here its class will do.
        what = type(error).__name__
        is_asked_for = isinstance(error, Retry | Snooze | Cancel)
        self._logger.log(
            logging.INFO if is_asked_for else logging.WARNING,
            "job %d %s ended with %s after %.3f s (attempt %d of %d)",
            job.id,
            job.name,
            what,
            duration_s,
            job.attempt,
            job.max_retries + 1,
            extra={**facts, "duration_s": duration_s, "error_type": what},
        )


class Recover:
    """Makes what is no `Exception` (SystemExit, KeyboardInterrupt …) a RuntimeError, for the middleware outside of it.

    The executor ends only the job in any case. A timeout and a cancel pass.
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


class Timeout:
    """A timeout for jobs that have none, in seconds or as a timedelta. Their own wins; of several, the shortest.

    It is as hard as a job's own: the supervisor ends what runs longer, whatever it does.
    """

    def __init__(self, seconds: float | timedelta | str) -> None:
        try:
            self.seconds = parse_duration(seconds)
        except UsageError as error:
            raise ConfigError([Fault("Timeout", str(error))]) from None
        if not 0 < self.seconds < math.inf:
            raise ConfigError([Fault("Timeout", f"must be more than zero seconds, not {shown(seconds)}")])

    def __call__(self, job: JobContext, call_next: CallNext, /) -> Any:
        return call_next(job)


class Tracing:
    """An OpenTelemetry span around each run, in the trace of the enqueue.

    An engine whose tracer provider is set (its own or the global one) puts one outermost by itself; name it to
    have it elsewhere in the order. Does nothing where opentelemetry-api is not installed.
    """

    def __init__(self, tracer_provider: Any = None) -> None:
        self.tracer_provider = tracer_provider

    def __call__(self, job: JobContext, call_next: CallNext, /) -> Any:
        # The engine replaces it by `telemetry.Traced` where there is something to trace with.
        return call_next(job)


class Metrics:
    """OpenTelemetry counts and durations of jobs.

    An engine whose meter provider is set (its own or the global one) has them without this. They are recorded where
    outcomes are written, not here, so that timeouts and crashes count too. Does nothing where opentelemetry-api is not
    installed.
    """

    def __init__(self, meter_provider: Any = None) -> None:
        self.meter_provider = meter_provider

    def __call__(self, job: JobContext, call_next: CallNext, /) -> Any:
        return call_next(job)


class Scope:
    """A resource per job: entered before the handler, left after it, also if it raises.

        session = middleware.Scope(lambda: Session(database))

        @engine.job
        def settle(order: int) -> None:
            session.current.execute(...)

    `factory` takes nothing or the JobContext, and gives a context manager. As in a `with` statement it sees what the
    handler raised (a timeout included), and may swallow it; the result is then None.
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
        """What entering this job's context manager gave.

        Raises:
            UsageError: no job runs inside of this scope now.
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
    """Whether it must be given an argument."""
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

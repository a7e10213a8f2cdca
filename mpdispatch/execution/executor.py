"""Runs one job in the main thread of a worker process and returns its outcome. Never raises.

                       ┌ window: an interrupt raises here ┐
    mark start ▸ decode ▸ middleware( handler(**arguments) ) ▸ close ▸ encode ▸ Outcome

An interrupt (timeout, cancel) comes from a signal handler, at any instruction of the main thread. It raises only
while the window is open for that very start, and closes the window itself, so it raises at most once.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

# Bound here: a job may have put something else in their place.
from os import _exit as exit_now
from os import getpid
from time import monotonic_ns, time_ns
from typing import Any, Literal, NamedTuple

import msgspec

from mpdispatch.errors import (
    AppImportError,
    Cancel,
    CommandFailedError,
    Fault,
    JobCancelled,
    JobInterrupt,
    JobTimeout,
    PayloadError,
    ResultError,
    Retry,
    Snooze,
    UnknownJobError,
)
from mpdispatch.execution import event_loop
from mpdispatch.execution.codec import Limits, encode_result, error_info
from mpdispatch.execution.job_context import JobContext
from mpdispatch.execution.middleware import CallNext, Middleware, stacked
from mpdispatch.execution.output import Reporter
from mpdispatch.execution.process_context import set_current_job
from mpdispatch.execution.usage import Meter
from mpdispatch.handlers.registry import JobDefinition, Registry, definition_of
from mpdispatch.model import (
    Answer,
    Cancelled,
    ClaimedJob,
    Completed,
    ErrorInfo,
    Expired,
    Raised,
    RetryAsked,
    Run,
    Snoozed,
)
from mpdispatch.policy.expiry import expiry_error, has_expired

InterruptKind = Literal["timeout", "cancel"]

# A delay is added to the wall time, in 64-bit microseconds; longer ones than a century make no difference.
_MAX_DELAY_S = 100 * 365.25 * 86400

_INTERRUPTS: dict[str, type[JobInterrupt]] = {"timeout": JobTimeout, "cancel": JobCancelled}
_INTERRUPT_TEXTS = {"timeout": "the job ran past its timeout", "cancel": "the job was asked to end"}
# A retry would fail in the same way: these depend on what is stored and what is registered.
_HOPELESS = (PayloadError, ResultError, UnknownJobError)


class _Asked(NamedTuple):
    job_id: int
    starts: int
    kind: InterruptKind


class Executor:
    """Runs jobs of a registry, one after the other.

    `on_start(job_id, starts)` is called before any code of the job runs; `reporter` takes progress.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        limits: Limits,
        reporter: Reporter,
        on_start: Callable[[int, int], None],
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self._registry, self._limits = registry, limits
        self._reporter, self._on_start = reporter, on_start
        # Built once; without middleware a handler is called directly.
        self._chain: CallNext | None = stacked(middleware, self._innermost) if middleware else None
        self._handler: tuple[Callable[..., Any], dict[str, Any]] | None = None
        self._pid = getpid()
        self._window: tuple[int, int] | None = None
        self._asked: _Asked | None = None
        self._context: JobContext | None = None
        self._meter = Meter()
        self.recycle_reasons: list[str] = []
        """Why this process should be replaced; empty: it may take more jobs."""

    def interrupt(self, job_id: int, starts: int, kind: InterruptKind) -> None:
        """End this start of this job: raises JobTimeout or JobCancelled into its handler.

        An async handler gets CancelledError instead, where it awaits.
        Call it from a Python signal handler in the main thread, unless `entering.postponed` says otherwise. Raises
        nothing if that start is not in its handler. A start that is still to come is interrupted at its first line.
        """
        context = self._context
        if context is not None and context.id == job_id and context.fencing_token == starts:
            context.is_cancelled = True
        if self._window == (job_id, starts):
            self._window = None
            error = _INTERRUPTS[kind](_INTERRUPT_TEXTS[kind])
            if event_loop.interrupt(error):
                return
            raise error
        self._asked = _Asked(job_id, starts, kind)

    def interrupt_thread(
        self, job_id: int, starts: int, kind: InterruptKind, *, strike: Callable[[], None]
    ) -> None:
        """As `interrupt`, from another thread than that which runs the job: `strike` has that thread raise the error.

        It may raise it a little after the handler has returned; then it is the outcome all the same.
        """
        context = self._context
        if context is not None and context.id == job_id and context.fencing_token == starts:
            context.is_cancelled = True
        # First, for the thread may open the window at this very moment, and looks for it then.
        self._asked = _Asked(job_id, starts, kind)
        if self._window == (job_id, starts) and not event_loop.interrupt(
            _INTERRUPTS[kind](_INTERRUPT_TEXTS[kind])
        ):
            strike()

    def _raise_if_asked(self, context: JobContext) -> None:
        """Raise an interrupt that came before the window was open."""
        asked = self._asked
        if asked is not None and self._window == asked[:2]:
            self._window = None
            context.is_cancelled = True
            raise _INTERRUPTS[asked.kind](_INTERRUPT_TEXTS[asked.kind])

    def run(self, job: ClaimedJob, reference: str | None = None) -> Answer:
        """Run the job's handler now, unless the job has expired; gives the outcome.

        `reference` ("module:qualname") is where the handler is, if its name is unknown here.
        """
        started_us = time_ns() // 1000
        try:
            return self._run(job, reference, started_us)
        except BaseException as stray:  # noqa: BLE001 - e.g. an alarm the handler left behind strikes in our own code
            self._window = None
            run = Run(started_us=started_us, worker_pid=self._pid)
            return Raised(run=run, error=error_info(stray), is_retryable=not isinstance(stray, _HOPELESS))
        finally:
            self._context = self._handler = None
            set_current_job(None)

    def _run(self, job: ClaimedJob, reference: str | None, started_us: int) -> Answer:
        if job.expires_at_us is not None and has_expired(job.expires_at_us, started_us):
            return Expired(
                error=expiry_error(job.expires_at_us)
            )  # it has waited here; it does not count as begun
        self._on_start(job.id, job.starts)
        if len(job.payload) > self._limits.max_payload_bytes:
            size, limit = len(job.payload), self._limits.max_payload_bytes
            text = f"the stored payload is {size:,} bytes, this worker takes {limit:,} (max_payload_bytes)"
            raise PayloadError(job.name, [Fault("", text)])
        definition = self._registry.find(job.name) or self._import(job.name, reference)
        arguments = definition.signature.decode(job.payload, job.id)
        deadline = None
        if job.timeout_us is not None:
            deadline = datetime.now(UTC) + timedelta(microseconds=job.timeout_us)
        context = self._context = JobContext(job, reporter=self._reporter, deadline=deadline)
        set_current_job(context)
        began_ns = monotonic_ns()
        call = definition.function
        if definition.is_async:
            call = functools.partial(event_loop.call, call)
        value, error = self._call(call, arguments, context)
        if getpid() != self._pid:
            exit_now(70)  # a fork made by the handler returned into our loop; only the worker may reply
        try:
            ended_ns = monotonic_ns()
            cpu_us, max_rss_bytes = self._meter.read(began_ns, ended_ns)
            run = Run(
                started_us=started_us,
                duration_us=(ended_ns - began_ns) // 1000,
                worker_pid=self._pid,
                cpu_us=cpu_us,
                max_rss_bytes=max_rss_bytes,
            )
            context.close()
            self.recycle_reasons += event_loop.take_reasons()
            return self._outcome(run, value, error)
        finally:
            del value, error  # a traceback holds this frame; this breaks the cycle

    def _call(
        self, function: Callable[..., Any], arguments: dict[str, Any], context: JobContext
    ) -> tuple[Any, BaseException | None]:
        try:
            try:
                self._window = (context.id, context.fencing_token)
                if self._asked is not None:
                    self._raise_if_asked(context)
                if self._chain is None:
                    value = function(**arguments)
                else:
                    self._handler = function, arguments
                    value = self._chain(context)
                self._window = None
                return value, None
            except BaseException as error:  # noqa: BLE001 - sys.exit() and friends in a handler end its job only
                self._window = None
                return None, error
        except BaseException as late:  # noqa: BLE001 - interrupted in the line above, before the window was shut
            self._window = None
            return None, late

    def _innermost(self, job: JobContext) -> Any:
        """The call of the handler, inside the last middleware."""
        assert self._handler is not None  # set before the chain is entered
        function, arguments = self._handler
        return function(**arguments)

    def _outcome(self, run: Run, value: Any, error: BaseException | None) -> Answer:
        match error:
            case None:
                return self._completed(run, value)
            case Retry():
                delay_us = None if error.delay_s is None else _as_us(error.delay_s)
                return RetryAsked(run=run, error=error_info(error), delay_us=delay_us)
            case Snooze():
                return Snoozed(run=run, delay_us=_as_us(error.delay_s))
            case Cancel():
                return Cancelled(run=run, error=error_info(error))
            case CommandFailedError(exit_status=status, signal=signal):
                return Raised(run=run, error=error_info(error), exit_status=status, signal=signal)
            case SystemExit():
                return Raised(run=run, error=_of_exit(error))
            case _:
                if isinstance(error, MemoryError):
                    self.recycle_reasons.append("a job ran out of memory")
                return Raised(run=run, error=error_info(error))

    def _completed(self, run: Run, value: Any) -> Answer:
        try:
            return Completed(run=run, result=encode_result(value, max_bytes=self._limits.max_result_bytes))
        except ResultError as error:
            return Raised(run=run, error=error_info(error), is_retryable=False)

    def _import(self, name: str, reference: str | None) -> JobDefinition:
        """The definition of a handler that was registered after this worker started."""
        if reference is None:
            raise UnknownJobError(name, known=sorted(self._registry.names()), where="this worker")
        module_name, _, qualname = reference.partition(":")
        try:
            found: Any = importlib.import_module(module_name)
            # The import may have registered the handler on the engine.
            if (registered := self._registry.find(name)) is not None:
                return registered
            for part in qualname.split("."):
                found = getattr(found, part)
        except AttributeError as error:
            reason = (
                f"{error}; a handler registered later must be at the top level of its module to be found there"
            )
            raise AppImportError(reference, reason, error_info(error).traceback) from error
        except Exception as error:
            raise AppImportError(reference, str(error), error_info(error).traceback) from error
        definition = definition_of(found)
        if definition is None or definition.name != name:
            function = found if definition is None else definition.function
            definition = JobDefinition(name=name, function=function)
        self._registry.add(definition)
        return definition


def _as_us(delay_s: float) -> int:
    return int(min(delay_s, _MAX_DELAY_S) * 1_000_000)


def _of_exit(error: SystemExit) -> ErrorInfo:
    info = error_info(error)
    shown = info.message if error.code is not None else ""
    return msgspec.structs.replace(info, message=f"handler called sys.exit({shown})")

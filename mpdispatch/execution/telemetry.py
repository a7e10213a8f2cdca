"""OpenTelemetry, optional: one trace from enqueue to run, and the metrics of jobs.

`opentelemetry` is imported only if a provider was given, or if the app has imported it and set a global provider.
Otherwise this costs one look into `sys.modules`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import msgspec

from mpdispatch.errors import Cancel, Retry, Snooze
from mpdispatch.execution.job_context import JobContext
from mpdispatch.execution.middleware import CallNext, Metrics, Middleware, Timeout, Tracing
from mpdispatch.hooks import (
    CronFired,
    Extension,
    JobCompleted,
    JobDeadLettered,
    JobEnqueued,
    JobFailed,
    JobRetrying,
)

_SCOPE = "mpdispatch"
_MOST_CONTEXT_BYTES = 2048
"""The largest context that is kept with a job. Of a larger one, with its baggage, only the trace is kept."""
_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""In seconds; OpenTelemetry's default buckets are meant for milliseconds."""
_FLUSH_MS = 2000


def _module(name: str) -> Any:
    """`opentelemetry.<name>`, or None if it is not installed."""
    try:
        return importlib.import_module(f"opentelemetry.{name}")
    except ImportError:
        return None


def _is_nothing(provider: object) -> bool:
    """Whether this is OpenTelemetry's placeholder for a provider that nobody has set."""
    name = type(provider).__name__
    return type(provider).__module__.startswith("opentelemetry.") and ("Proxy" in name or "NoOp" in name)


def _global_provider(signal: str, getter: str) -> Any:
    """The global provider, if the app has set one. Imports nothing: an app that set one has imported the API."""
    api = sys.modules.get(f"opentelemetry.{signal}")
    if api is None:
        return None
    provider = getattr(api, getter)()
    return None if _is_nothing(provider) else provider


class Telemetry:
    """An engine's tracer and metrics, if it has any. Looked up at use, because a global provider may be set late."""

    def __init__(
        self, tracer_provider: Any = None, meter_provider: Any = None, middleware: Sequence[Middleware] = ()
    ) -> None:
        named_tracers = (each.tracer_provider for each in middleware if isinstance(each, Tracing))
        named_meters = (each.meter_provider for each in middleware if isinstance(each, Metrics))
        self._tracer_provider = _first(tracer_provider, *named_tracers)
        self._meter_provider = _first(meter_provider, *named_meters)
        self.has_providers = self._tracer_provider is not None or self._meter_provider is not None
        """Whether a provider was given to the engine, other than the global ones."""
        self._tracer: Any = None
        self._metrics: JobMetrics | None = None

    @property
    def is_tracing(self) -> bool:
        if self._tracer_provider is None and "opentelemetry.trace" not in sys.modules:
            return False  # the quick way out, for every enqueue comes here
        return self._find_tracer() is not None

    def _find_tracer(self) -> Any:
        if self._tracer is None:
            provider = _first(self._tracer_provider, _global_provider("trace", "get_tracer_provider"))
            if provider is not None and _module("trace") is not None:
                self._tracer = provider.get_tracer(_SCOPE)
                self._tracer_provider = provider
        return self._tracer

    @contextmanager
    def enqueueing(self, name: str, queue: str) -> Iterator[str]:
        """A span around an enqueue; gives the context to keep with the job. Call it only if `is_tracing`."""
        kind = _module("trace").SpanKind.PRODUCER
        attributes = {"dispatch.job.name": name, "dispatch.queue": queue}
        with self._tracer.start_as_current_span("dispatch.job.enqueue", kind=kind, attributes=attributes):
            yield _current_context()

    def around_handlers(self, middleware: Sequence[Middleware]) -> tuple[Middleware, ...]:
        """The middleware that a worker calls: without those that do nothing, and with tracing at its place."""
        tracer = self._find_tracer()
        found: list[Middleware] = []
        is_placed = False
        for each in middleware:
            if type(each) is Tracing:
                if tracer is not None and not is_placed:
                    found.append(Traced(tracer))
                is_placed = True
            elif type(each) is not Timeout and type(each) is not Metrics:
                found.append(each)
        if tracer is not None and not is_placed:
            found.insert(0, Traced(tracer))
        return tuple(found)

    def metrics(self) -> JobMetrics | None:
        """The extension that records metrics, if there is a provider."""
        if self._metrics is None:
            if self._meter_provider is None and "opentelemetry.metrics" not in sys.modules:
                return None
            provider = _first(self._meter_provider, _global_provider("metrics", "get_meter_provider"))
            if provider is not None:
                self._meter_provider = provider
                self._metrics = JobMetrics(provider)
        return self._metrics

    def flush(self) -> None:
        """Send what providers hold back, before a process ends without its exit handlers. Never raises."""
        in_use = (self._tracer and self._tracer_provider, self._metrics and self._meter_provider)
        for provider in in_use:
            try:
                flush = getattr(provider, "force_flush", None)
                if flush is not None:
                    flush(_FLUSH_MS)
            except Exception:  # noqa: BLE001, S112 - an exporter that fails has logged so itself
                continue


def _first(*candidates: Any) -> Any:
    for each in candidates:
        if each is not None:
            return each
    return None


def _current_context() -> str:
    """The current context as a JSON object of header name → value (`traceparent` …)."""
    carrier: dict[str, str] = {}
    _module("propagate").inject(carrier)
    kept = msgspec.json.encode(carrier).decode()
    if len(kept) > _MOST_CONTEXT_BYTES:
        kept = msgspec.json.encode({k: v for k, v in carrier.items() if k == "traceparent"}).decode()
    return kept


class Traced:
    """Middleware: a span around the handler, a child of the span of the enqueue."""

    def __init__(self, tracer: Any) -> None:
        self._tracer = tracer
        trace = _module("trace")
        self._kind, self._error = trace.SpanKind.CONSUMER, trace.StatusCode.ERROR
        self._extract = _module("propagate").extract

    def __call__(self, job: JobContext, call_next: CallNext, /) -> Any:
        context = None
        if job.trace_context is not None:
            context = self._extract(_carrier_of(job.trace_context))
        attributes = {
            "dispatch.job.id": job.id,
            "dispatch.job.name": job.name,
            "dispatch.queue": job.queue,
            "dispatch.attempt": job.attempt,
            "dispatch.retry_count": job.attempt - 1,
        }
        with self._tracer.start_as_current_span(
            "dispatch.job.execute",
            context=context,
            kind=self._kind,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                return call_next(job)
            except (Snooze, Cancel) as asked:
                span.set_attribute("dispatch.asked", type(asked).__name__.lower())
                raise
            except BaseException as error:
                # A Retry counts as an error, with a delay. Interrupts are recorded like other errors.
                span.record_exception(error)
                text = str(error) if isinstance(error, Retry) else f"{type(error).__name__}: {error}"
                span.set_status(self._error, text)
                raise


def _carrier_of(kept: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(kept, type=dict[str, str])
    except msgspec.DecodeError:
        return {}  # changed by hand: the run begins a new trace


_Counted: TypeAlias = JobEnqueued | JobCompleted | JobFailed | JobRetrying | JobDeadLettered | CronFired

_COUNTERS: dict[type[_Counted], tuple[str, str, str]] = {
    JobEnqueued: ("dispatch_jobs_enqueued_total", "Jobs enqueued", ""),
    JobCompleted: ("dispatch_jobs_completed_total", "Jobs whose handler returned", "completed"),
    JobFailed: ("dispatch_jobs_failed_total", "Jobs that failed for good", "failed"),
    JobRetrying: ("dispatch_jobs_retried_total", "Attempts that failed and are tried again", "retrying"),
    JobDeadLettered: ("dispatch_jobs_dlq_total", "Jobs that became dead letters", ""),
    CronFired: ("dispatch_crons_fired_total", "Jobs that cron entries put into their queues", ""),
}
"""Name and description of a counter, and the `status` of the durations of such events."""


class JobMetrics(Extension):
    """Extension: counts jobs and measures their durations, from committed outcomes."""

    name = "opentelemetry"

    def __init__(self, meter_provider: Any) -> None:
        meter = meter_provider.get_meter(_SCOPE)
        self._counters = {
            kind: meter.create_counter(name, unit="{job}", description=description)
            for kind, (name, description, _) in _COUNTERS.items()
        }
        self._duration = meter.create_histogram(
            "dispatch_job_duration_seconds",
            unit="s",
            description="How long handlers ran",
            explicit_bucket_boundaries_advisory=_BUCKETS_S,
        )

    def _record(self, event: _Counted) -> None:
        attributes = {"name": event.name, "queue": event.queue}
        if isinstance(event, CronFired):
            attributes["entry"] = event.entry
        self._counters[type(event)].add(1, attributes)
        duration_s = getattr(event, "duration_s", None)
        if duration_s is not None:
            self._duration.record(duration_s, {**attributes, "status": _COUNTERS[type(event)][2]})

    on_job_enqueued = on_job_completed = on_job_failed = on_job_retrying = on_job_dead_lettered = _record
    on_cron_fired = _record

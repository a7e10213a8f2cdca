"""Traces and metrics in the real SDK, and what OpenTelemetry costs where it is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from mpdispatch import Cancel, Dispatcher, Engine, SQLiteStore, middleware
from mpdispatch.events.notices import Recorded, fired
from mpdispatch.execution.codec import Limits
from mpdispatch.execution.executor import Executor
from mpdispatch.execution.telemetry import Telemetry, Traced
from mpdispatch.ids import boot_id
from mpdispatch.model import Cause, ClaimedJob, ErrorInfo, JobState, NewSupervisor, Run, Transition
from tests.execution.test_middleware import Silent
from tests.store.requests import request


class Traces:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def named(self, name: str) -> list[Any]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


@pytest.fixture
def traces() -> Traces:
    return Traces()


def claimed(store: SQLiteStore) -> list[ClaimedJob]:
    """What a supervisor of this store would get now."""
    who = NewSupervisor(
        host="h",
        machine_id="m",
        boot_id=boot_id(),
        pid=1,
        pid_start=1,
        pid_namespace="n",
        queues=("default",),
        concurrency=1,
        app="",
        version="",
    )
    supervisor_store = store.supervisor_store()
    try:
        owner = supervisor_store.register(who, 10**9)
        jobs = list(supervisor_store.commit(owner, (), claim=request(slots=10)).claimed)
        assert [each.trace_context for each in supervisor_store.jobs_of(owner)] == [
            each.trace_context for each in jobs
        ]
        return jobs
    finally:
        supervisor_store.close()


def run(engine: Engine, job: ClaimedJob) -> Any:
    around = engine.telemetry.around_handlers(engine.middleware)
    executor = Executor(
        engine.registry, limits=Limits(), reporter=Silent(), on_start=lambda *_: None, middleware=around
    )
    return executor.run(job)


def engine_on(folder: Path, **options: Any) -> Engine:
    return Engine.build(Dispatcher(store=SQLiteStore(folder / "jobs.db")), **options)


def test_one_trace_leads_from_the_caller_over_the_enqueue_to_the_run_and_on(
    tmp_path: Path, traces: Traces
) -> None:
    engine = engine_on(tmp_path, tracer_provider=traces.provider)

    @engine.job
    def second() -> None: ...

    @engine.job
    def first() -> None:
        second.enqueue()

    with traces.provider.get_tracer("test").start_as_current_span("request") as request:
        job = first.enqueue()
    (row,) = claimed(engine.dispatcher.store)  # type: ignore[arg-type]
    run(engine, row)
    (next_row,) = claimed(engine.dispatcher.store)  # type: ignore[arg-type]
    run(engine, next_row)
    enqueues, runs = traces.named("dispatch.job.enqueue"), traces.named("dispatch.job.execute")
    assert [span.kind for span in (*enqueues, *runs)] == [SpanKind.PRODUCER] * 2 + [SpanKind.CONSUMER] * 2
    assert {span.context.trace_id for span in (*enqueues, *runs)} == {request.get_span_context().trace_id}
    by_name = {span.attributes["dispatch.job.name"]: span for span in enqueues}
    for span in runs:
        assert span.parent.span_id == by_name[span.attributes["dispatch.job.name"]].context.span_id
    assert by_name["second"].parent.span_id == runs[0].context.span_id
    assert dict(runs[0].attributes) == {
        "dispatch.job.id": job.id,
        "dispatch.job.name": "first",
        "dispatch.queue": "default",
        "dispatch.attempt": 1,
        "dispatch.retry_count": 0,
    }


def test_a_batch_is_one_span_that_all_its_jobs_belong_to(tmp_path: Path, traces: Traces) -> None:
    engine = engine_on(tmp_path, tracer_provider=traces.provider)

    @engine.job
    def add(a: int) -> None: ...

    add.enqueue_many([{"a": n} for n in range(3)])
    for row in claimed(engine.dispatcher.store):  # type: ignore[arg-type]
        run(engine, row)
    (enqueue,) = traces.named("dispatch.job.enqueue")
    runs = traces.named("dispatch.job.execute")
    assert {span.parent.span_id for span in runs} == {enqueue.context.span_id}
    assert len(runs) == 3


@pytest.mark.parametrize(
    ("error", "status", "events"),
    [
        (ValueError("bad"), StatusCode.ERROR, 1),
        (SystemExit(1), StatusCode.ERROR, 1),
        (Cancel(), StatusCode.UNSET, 0),
    ],
)
def test_a_span_tells_how_the_handler_ended(
    tmp_path: Path, traces: Traces, error: BaseException, status: StatusCode, events: int
) -> None:
    engine = engine_on(tmp_path, tracer_provider=traces.provider)

    @engine.job
    def ends() -> None:
        raise error

    ends.enqueue()
    run(engine, claimed(engine.dispatcher.store)[0])  # type: ignore[arg-type]
    (span,) = traces.named("dispatch.job.execute")
    assert span.status.status_code is status
    assert len(span.events) == events


def test_a_context_somebody_damaged_begins_a_new_trace(tmp_path: Path, traces: Traces) -> None:
    engine = engine_on(tmp_path, tracer_provider=traces.provider)

    @engine.job
    def plain() -> None: ...

    run(engine, ClaimedJob(1, 1, 1, "plain", "default", 0, 0, 3, None, None, "{junk", payload=b"{}"))
    (span,) = traces.named("dispatch.job.execute")
    assert span.parent is None


def test_tracing_stands_outermost_or_where_it_is_named(traces: Traces) -> None:
    recover, named = middleware.Recover(), middleware.Tracing(traces.provider)
    first, second = Telemetry(traces.provider).around_handlers((recover,))
    assert (type(first), second) == (Traced, recover)
    first, second = Telemetry(middleware=(recover, named)).around_handlers((recover, named))
    assert (first, type(second)) == (recover, Traced)


def recorded(state: JobState, cause: Cause) -> Recorded:
    error = None if cause is Cause.COMPLETED else ErrorInfo(type="ValueError", message="bad")
    job = ClaimedJob(7, 2, 1, "render", "bulk", 0, 0, 3, None, None, payload=b"{}")
    return Recorded(
        job,
        Transition(
            job_id=7,
            starts=2,
            state=state,
            attempt=1,
            cause=cause,
            at_us=2_000_000,
            run=Run(started_us=1_500_000, duration_us=250_000, worker_pid=31),
            error=error,
            claim_attempt=1,
        ),
    )


def test_metrics_have_the_documented_names_and_attributes(tmp_path: Path) -> None:
    reader = InMemoryMetricReader()
    engine = engine_on(tmp_path, meter_provider=MeterProvider(metric_readers=[reader]))

    @engine.job(queue="bulk")
    def render() -> None: ...

    render.enqueue()
    render.enqueue_many([{}, {}])
    render.options(idempotency_key="k").enqueue()
    render.options(idempotency_key="k").enqueue()  # an older job: nothing was enqueued
    line = engine.hooks.queue()
    line.offer([recorded(JobState.COMPLETED, Cause.COMPLETED), recorded(JobState.RETRYING, Cause.ERROR)], 2)
    line.offer([recorded(JobState.FAILED, Cause.TIMEOUT)], 1)
    line.offer([fired("nightly", render.enqueue())], 1)
    assert line.drain(5)
    found: dict[str, Any] = {}
    data = reader.get_metrics_data()
    assert data is not None
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        found[metric.name] = list(metric.data.data_points)
    whose = {"name": "render", "queue": "bulk"}
    counters = {name: [(p.value, dict(p.attributes))] for name, (p, *_) in found.items() if hasattr(p, "value")}
    assert counters == {
        "dispatch_jobs_enqueued_total": [(5, whose)],
        "dispatch_jobs_completed_total": [(1, whose)],
        "dispatch_jobs_retried_total": [(1, whose)],
        "dispatch_jobs_failed_total": [(1, whose)],
        "dispatch_jobs_dlq_total": [(1, whose)],
        "dispatch_crons_fired_total": [(1, {**whose, "entry": "nightly"})],
    }
    durations = {p.attributes["status"]: (p.count, p.sum) for p in found["dispatch_job_duration_seconds"]}
    assert durations == {"completed": (1, 0.25), "retrying": (1, 0.25), "failed": (1, 0.25)}


ABSENT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "opentelemetry":
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
"""
APP = """
from mpdispatch import Dispatcher, Engine, SQLiteStore, middleware
around = [middleware.Tracing(), middleware.Metrics(), middleware.Recover()]
engine = Engine.build(Dispatcher(store=SQLiteStore("jobs.db")), middleware=around)
@engine.job
def add(a: int) -> int: return a
add.enqueue(1)
about = engine.describe()
print(about.is_traced, sorted(about.hooks), len(engine.telemetry.around_handlers(engine.middleware)))
print(sorted(name for name in sys.modules if name.startswith("opentelemetry")))
"""


@pytest.mark.parametrize("before", [ABSENT, "import sys\n"], ids=["absent", "present"])
def test_where_opentelemetry_is_absent_or_unused_nothing_of_it_is_imported(tmp_path: Path, before: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", before + APP],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
    )
    assert done.stdout.splitlines() == ["False [] 1", "[]"], done.stderr


def test_a_global_provider_is_found_when_it_is_set_and_not_before(tmp_path: Path) -> None:
    code = """
import sys
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from mpdispatch import Dispatcher, Engine, SQLiteStore
engine = Engine.build(Dispatcher(store=SQLiteStore("jobs.db")))
print(engine.telemetry.is_tracing, engine.telemetry.metrics())
trace.set_tracer_provider(TracerProvider())
metrics.set_meter_provider(MeterProvider())
print(engine.telemetry.is_tracing, "on_job_failed" in engine.hooks.wanted())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
    )
    assert done.stdout.splitlines() == ["False None", "True True"], done.stderr

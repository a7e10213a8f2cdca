"""Extensions in whole programs: under `mpdispatch supervise` and in the app's own process, whatever their hooks do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import mpdispatch
from mpdispatch import SQLiteStore

PACKAGE_PARENT = str(Path(mpdispatch.__file__).parents[1])

TASKS = """
    import json, os, signal, sys, time
    from mpdispatch import Dispatcher, Engine, SQLiteStore, hooks, middleware

    class Recorder(hooks.Extension):
        name = "recorder"

        def write(self, event):
            kind = type(event).__name__
            line = [kind, getattr(event, "job_id", None), getattr(event, "name", None), os.getpid()]
            with open("events.txt", "a") as file:
                file.write(json.dumps(line) + "\\n")

        on_job_enqueued = on_job_started = on_job_completed = on_job_failed = write
        on_job_retrying = on_job_dead_lettered = on_shutdown = write

    class Trouble(hooks.Extension):
        name = "trouble"

        def on_job_started(self, event):
            match os.environ.get("TROUBLE"):
                case "raise":
                    raise LookupError("no pager")
                case "block":
                    time.sleep(5)
                case "exit" if event.name == "add":
                    os._exit(3)

    around = [middleware.Timeout(0.5)] if "DEFAULT_TIMEOUT" in os.environ else []
    dispatcher = Dispatcher(store=SQLiteStore("jobs.db"), concurrency=2, poll_interval=0.2)
    engine = Engine.build(dispatcher, extensions=[Recorder(), Trouble()], middleware=around)

    @engine.job
    def add(a: int, b: int = 2) -> int:
        return a + b

    @engine.job
    def fan() -> list:
        return [add.enqueue(1).id, *add.enqueue_many([{"a": 2}, {"a": 3}])]

    @engine.job(max_retries=0, timeout=0.3)
    def limited() -> None:
        hang.definition.function()

    @engine.job(max_retries=0)
    def hang() -> None:
        time.sleep(60)

    @engine.job(max_retries=1, backoff=mpdispatch.backoff.Constant(0.01))
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)
"""
TASKS = TASKS.replace("import json, os", "import mpdispatch\n    import json, os", 1)


class Place:
    """A folder with an app in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tasks.py").write_text(textwrap.dedent(TASKS))

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            env={"PYTHONPATH": PACKAGE_PARENT, "PATH": os.environ["PATH"], **variables},
        )
        assert done.returncode in (0, 1), done.stderr
        return done

    def python(self, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run("-c", f"from tasks import *\n{textwrap.dedent(code)}", **variables)

    def drain(self, how: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run what is there, by the command line or in a program of its own."""
        if how == "supervise":
            return self.run("-m", "mpdispatch", "supervise", "tasks:engine", "--drain", **variables)
        return self.python("dispatcher.run(drain=True)", **variables)

    @property
    def events(self) -> list[tuple[Any, ...]]:
        return [tuple(json.loads(line)) for line in (self.folder / "events.txt").read_text().splitlines()]

    def told_of(self, job_id: int) -> list[str]:
        return [kind for kind, told, *_ in self.events if told == job_id]

    @property
    def states(self) -> dict[str, int]:
        return {
            str(state): count for state, count in SQLiteStore(self.folder / "jobs.db").counts().items() if count
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


WAYS = pytest.mark.parametrize("how", ["supervise", "run"])


@WAYS
def test_hooks_hear_of_every_step_in_order(place: Place, how: str) -> None:
    place.python("fan.enqueue(); die.enqueue()")
    place.drain(how)
    assert place.told_of(1) == ["JobEnqueued", "JobStarted", "JobCompleted"]
    assert place.told_of(2) == [
        "JobEnqueued",
        *("JobStarted", "JobRetrying"),
        *("JobStarted", "JobFailed", "JobDeadLettered"),
    ]
    for child in (3, 4, 5):  # enqueued by a handler
        assert place.told_of(child) == ["JobEnqueued", "JobStarted", "JobCompleted"]
    assert place.events[-1][0] == "Shutdown"
    supervising = {pid for kind, *_, pid in place.events if kind != "JobEnqueued"}
    assert len(supervising) == 1


def test_retry_and_replay_make_a_job_the_hooks_hear_of(place: Place) -> None:
    place.python("hang.options(timeout=0.1).enqueue(); hang.options(timeout=0.1).enqueue()")
    place.drain("run")
    code = "print(engine.retry(1).id, engine.dead_letters.replay(2).id, engine.dead_letters.replay(2).id)"
    assert place.python(code).stdout.split() == ["3", "4", "4"]
    assert (place.told_of(3), place.told_of(4)) == (["JobEnqueued"], ["JobEnqueued"])


@WAYS
def test_a_hook_that_raises_is_logged_by_name_and_harms_nothing(place: Place, how: str) -> None:
    place.python("fan.enqueue()")
    done = place.drain(how, TROUBLE="raise")
    assert "extension trouble raised in on_job_started" in done.stderr
    assert "LookupError" in done.stderr
    assert place.states == {"completed": 4}
    assert place.told_of(4) == ["JobEnqueued", "JobStarted", "JobCompleted"]


@WAYS
def test_a_hook_that_blocks_for_5_s_delays_no_timeout_and_no_job(place: Place, how: str) -> None:
    place.python("[hang.options(timeout=0.3).enqueue() for _ in range(4)]; fan.enqueue()")
    place.drain(how, TROUBLE="block")
    assert place.states == {"completed": 4, "failed": 4}
    store = SQLiteStore(place.folder / "jobs.db")
    jobs = [store.get(job_id) for job_id in range(1, 9)]
    lasted = [(job.completed_at - job.started_at).total_seconds() for job in jobs]  # type: ignore[operator]
    assert max(lasted) < 2.5, lasted
    assert (max(j.completed_at for j in jobs) - min(j.started_at for j in jobs)).total_seconds() < 4.5  # type: ignore[type-var, operator]


def test_the_hook_process_dies_and_the_jobs_go_on(place: Place) -> None:
    place.python("add.enqueue(1); hang.options(timeout=0.3).enqueue()")
    done = place.drain("supervise", TROUBLE="exit")
    assert place.states == {"completed": 1, "failed": 1}
    assert "the hook process" in done.stderr
    assert done.returncode == 1


def test_under_supervise_neither_the_app_nor_a_hook_is_in_the_supervisor(place: Place) -> None:
    place.python("add.enqueue(1)")
    code = """
        import os, sys
        sys.argv[:] = ["mpdispatch", "supervise", "tasks:engine", "--drain"]
        from mpdispatch.cli import main
        try:
            main()
        finally:
            print(os.getpid(), "tasks" in sys.modules, flush=True)
    """
    pid, has_app = place.run("-c", textwrap.dedent(code)).stdout.split()[-2:]
    assert has_app == "False"
    assert {told_by for kind, *_, told_by in place.events if kind == "JobCompleted"} - {int(pid)} != set()


@WAYS
def test_the_default_timeout_ends_a_job_that_was_enqueued_without_the_app(place: Place, how: str) -> None:
    place.run("-m", "mpdispatch", "--store", "jobs.db", "enqueue", "hang")
    place.python("hang.enqueue(); hang.options(timeout=0.2).enqueue()", DEFAULT_TIMEOUT="1")
    place.drain(how, DEFAULT_TIMEOUT="1")
    store = SQLiteStore(place.folder / "jobs.db")
    jobs = [store.get(job_id) for job_id in (1, 2, 3)]
    assert [job.timeout for job in jobs] == [None, 0.5, 0.2]
    assert [job.last_error.message for job in jobs if job.last_error] == [
        "ran longer than its timeout of 0.5 s",
        "ran longer than its timeout of 0.5 s",
        "ran longer than its timeout of 0.2 s",
    ]


@WAYS
def test_a_handlers_own_timeout_ends_a_job_that_was_enqueued_without_the_app(place: Place, how: str) -> None:
    place.run("-m", "mpdispatch", "--store", "jobs.db", "enqueue", "limited", "--max-retries", "0")
    place.drain(how, DEFAULT_TIMEOUT="1")
    job = SQLiteStore(place.folder / "jobs.db").get(1)
    assert job.last_error is not None
    assert job.last_error.message == "ran longer than its timeout of 0.3 s"


TRACED = """
    import json
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from mpdispatch import Dispatcher, Engine, SQLiteStore

    class ToFile(SpanExporter):
        def export(self, spans):
            with open("spans.txt", "a") as file:
                for span in spans:
                    parent = span.parent and span.parent.span_id
                    one = [span.name, span.context.trace_id, span.context.span_id, parent]
                    file.write(json.dumps(one) + "\\n")
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(ToFile(), schedule_delay_millis=60_000))
    dispatcher = Dispatcher(store=SQLiteStore("jobs.db"), concurrency=2)
    engine = Engine.build(dispatcher, tracer_provider=provider)

    @engine.job
    def add(a: int) -> int:
        return a
"""


@WAYS
def test_spans_that_workers_hold_back_are_sent_before_they_end(place: Place, how: str) -> None:
    (place.folder / "tasks.py").write_text(textwrap.dedent(TRACED))
    place.python("add.enqueue(1)")
    place.drain(how)
    spans = [json.loads(line) for line in (place.folder / "spans.txt").read_text().splitlines()]
    (enqueue,) = (span for span in spans if span[0] == "dispatch.job.enqueue")
    (run,) = (span for span in spans if span[0] == "dispatch.job.execute")
    assert (run[1], run[3]) == (enqueue[1], enqueue[2])

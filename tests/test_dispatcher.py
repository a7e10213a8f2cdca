"""The dispatcher: what it refuses, and whole programs that start, run and stop it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

import mpdispatch
from mpdispatch import (
    AppReferenceError,
    Config,
    ConfigError,
    Dispatcher,
    Engine,
    NoStoreError,
    SQLiteStore,
    UsageError,
    WrongProcessError,
)
from mpdispatch.execution import process_context

PACKAGE_PARENT = str(Path(mpdispatch.__file__).parents[1])


def store(folder: Path) -> SQLiteStore:
    return SQLiteStore(folder / "jobs.db")


def test_a_dispatcher_needs_a_store() -> None:
    with pytest.raises(NoStoreError, match="SQLiteStore"):
        Dispatcher()
    with pytest.raises(ConfigError, match="store: must be a store"):
        Dispatcher(store="jobs.db")  # type: ignore[arg-type]


def test_config_comes_whole_or_by_field_but_not_both(tmp_path: Path) -> None:
    assert Dispatcher(store=store(tmp_path), concurrency=3).config.concurrency == 3
    whole = Config(concurrency=4)
    assert Dispatcher(store=store(tmp_path), config=whole).config is whole
    with pytest.raises(ConfigError, match="cannot be given too: concurrency"):
        Dispatcher(store=store(tmp_path), config=whole, concurrency=3)
    with pytest.raises(ConfigError, match="config: must be a Config"):
        Dispatcher(store=store(tmp_path), config={"concurrency": 3})  # type: ignore[arg-type]


def test_everything_wrong_with_the_config_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Dispatcher(store=store(tmp_path), concurency=3, poll_interval=-1)
    assert {fault.key for fault in caught.value.faults} == {"concurency", "poll_interval"}


def test_the_environment_fills_in_what_is_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPDISPATCH_CONCURRENCY", "7")
    monkeypatch.setenv("MPDISPATCH_QUEUES", "a,b")
    config = Dispatcher(store=store(tmp_path), queues=["c"]).config
    assert (config.concurrency, config.queues) == (7, ("c",))


def test_starting_without_an_engine_or_with_several_is_refused(tmp_path: Path) -> None:
    dispatcher = Dispatcher(store=store(tmp_path))
    with pytest.raises(UsageError, match="no engine"):
        dispatcher.start()
    Engine.build(dispatcher)
    Engine.build(dispatcher)
    with pytest.raises(UsageError, match="several engines"):
        dispatcher.run()


def test_an_engine_no_worker_could_find_is_refused_before_anything_starts(tmp_path: Path) -> None:
    engine = Engine.build(Dispatcher(store=store(tmp_path)))
    before = set(threading.enumerate())
    with pytest.raises(AppReferenceError, match="module that can be imported"):
        engine.dispatcher.start()
    assert set(threading.enumerate()) <= before
    engine.dispatcher.stop()


def test_a_worker_starts_no_supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine.build(Dispatcher(store=store(tmp_path)))
    monkeypatch.setattr(process_context, "_is_worker", True)
    for call in (engine.dispatcher.start, engine.dispatcher.run):
        with pytest.raises(WrongProcessError, match="__main__"):
            call()


# ---------------------------------------------------------------- whole programs

TASKS = """
    import os, sys, time
    from mpdispatch import Dispatcher, Engine, SQLiteStore, current_engine, current_job, job

    engine = Engine.build(Dispatcher(store=SQLiteStore("jobs.db"), concurrency=2, poll_interval=0.2))

    @engine.job
    def add(a: int, b: int = 2) -> int:
        return a + b

    @engine.job
    def fan(n: int) -> list[int]:
        assert current_engine() is engine
        return [add.enqueue(number).id for number in range(n)]

    @engine.job(max_retries=0)
    def where() -> dict:
        upper = ("supervisor", "cli", "web", "testing")
        loaded = [m for m in sys.modules if m.startswith(tuple(f"mpdispatch.{u}" for u in upper))]
        return {"pid": os.getpid(), "loaded": loaded}

    @engine.job(max_retries=0)
    def fail() -> None:
        raise LookupError("nothing here")

    @job
    def late(text: str) -> str:
        return text.upper()
"""


MAIL = """
@engine.job(queue="mail")
def write() -> None: ...

@engine.job(queue="mail")
def remind() -> None: ...
"""


def run_program(folder: Path, body: str, *, tasks: str = TASKS) -> str:
    """Run `tasks` and a guarded `body` as one main script; what it printed."""
    script = folder / "program.py"
    guarded = 'if __name__ == "__main__":\n' + textwrap.indent(textwrap.dedent(body), "    ")
    script.write_text(textwrap.dedent(tasks) + "\n" + guarded)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={"PYTHONPATH": PACKAGE_PARENT, "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_started_dispatcher_runs_what_is_enqueued_in_other_processes(tmp_path: Path) -> None:
    said = run_program(
        tmp_path,
        """
        with engine.dispatcher:
            assert engine.wait(add.enqueue(3, b=4).id, timeout=30).result == 7
            assert engine.wait(fan.enqueue(2).id, timeout=30).result
            seen = engine.wait(where.enqueue().id, timeout=30).result
            assert seen["pid"] != os.getpid() and seen["loaded"] == [], seen
            ended = engine.get_job(fan.enqueue(0).id)
        print("ended", engine.dispatcher._thread)
        """,
    )
    assert said == "ended None\n"


def test_a_failed_job_is_reported_with_the_handlers_error(tmp_path: Path) -> None:
    said = run_program(
        tmp_path,
        """
        from mpdispatch import JobFailedError
        with engine.dispatcher:
            try:
                engine.wait(fail.enqueue().id, timeout=30)
            except JobFailedError as error:
                print(error.error.type, error.error.message, error.job.state)
                print([a.cause.value for a in engine.attempts(error.job.id)])
        """,
    )
    assert said.splitlines() == ["LookupError nothing here failed", "['error']"]


def test_a_handler_registered_after_the_start_is_run(tmp_path: Path) -> None:
    said = run_program(
        tmp_path,
        """
        with engine.dispatcher:
            engine.register(late)
            print(engine.wait(late.enqueue("abc").id, timeout=30).result)
        """,
    )
    assert said == "ABC\n"


def test_start_and_run_warn_of_queues_that_are_not_polled(tmp_path: Path) -> None:
    said = run_program(
        tmp_path,
        """
        import logging, sys
        logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(message)s")
        engine.dispatcher.run(drain=True)
        with engine.dispatcher:
            pass
        """,
        tasks=textwrap.dedent(TASKS) + MAIL,
    )
    text = "handlers have queues that are not polled here: mail (handlers: remind, write); poll them with"
    assert [line.startswith(text) for line in said.splitlines()] == [True, True], said


def test_run_with_drain_returns_when_nothing_is_left(tmp_path: Path) -> None:
    said = run_program(
        tmp_path,
        """
        add.enqueue_many({"a": n} for n in range(50))
        fail.enqueue()
        report = engine.dispatcher.run(drain=True)
        print(report.failed, engine.counts()["completed"])
        """,
    )
    assert said == "1 50\n"


def test_a_dispatcher_starts_once_and_again_after_stop(tmp_path: Path) -> None:
    said = run_program(
        tmp_path,
        """
        from mpdispatch import UsageError
        for round in range(2):
            engine.dispatcher.start()
            for call in (engine.dispatcher.start, engine.dispatcher.run):
                try:
                    call()
                except UsageError as error:
                    print("refused")
            print(engine.wait(add.enqueue(round).id, timeout=30).result)
            engine.dispatcher.stop(timeout=5)
            engine.dispatcher.stop()
        """,
    )
    assert said.split() == ["refused", "refused", "2", "refused", "refused", "3"]


@pytest.mark.parametrize("call", ["start()", "run(drain=True)"])
def test_an_app_that_does_not_import_in_a_worker_raises_from_the_call(tmp_path: Path, call: str) -> None:
    # __name__ differs in a worker: the import fails there only.
    broken = TASKS + '\n    if __name__ != "__main__":\n        raise LookupError("only in a worker")\n'
    said = run_program(
        tmp_path,
        f"""
        from mpdispatch import AppImportError
        job = add.enqueue(1)
        try:
            engine.dispatcher.{call}
        except AppImportError as error:
            print("only in a worker" in str(error), "program.py" in error.traceback)
        print(engine.get_job(job.id).starts)
        """,
        tasks=broken,
    )
    assert said.split() == ["True", "True", "0"]


def test_run_outside_of_the_main_thread_is_refused(tmp_path: Path) -> None:
    engine = Engine.build(Dispatcher(store=store(tmp_path)))
    module: Any = sys.modules[__name__]
    module.found_engine = engine
    caught: list[BaseException] = []

    def call() -> None:
        try:
            engine.dispatcher.run()
        except UsageError as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    del module.found_engine
    assert "main thread" in str(caught[0])

"""What somebody reads in the first hour when something is wrong: the cause, the thing, and what to do next."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession

from mpdispatch import (
    Dispatcher,
    DispatchError,
    Engine,
    SQLiteStore,
    WaitTimeoutError,
    WrongProcessError,
    job,
    open_store,
)
from mpdispatch.clock import SystemClock
from mpdispatch.engine.options import EnqueueKeywords
from mpdispatch.execution import process_context
from mpdispatch.handlers.signature import OPTION_NAMES
from tests.clock import FakeClock
from tests.conftest import ROOT, Cli
from tests.store.conftest import Desk, retrying

# No internal name, and nothing that only we understand.
INTERNAL = ("Traceback", "msgspec.", "sqlite3.", "NoneType", "<lambda>.<locals>", "object at 0x")


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.chdir(tmp_path)
    engine = Engine.open("jobs.db")

    @engine.job
    def render(path: str, dpi: int = 300) -> None: ...

    return engine


def render(path: str) -> None: ...


class Painter:
    def paint(self, path: str) -> None: ...


def files(*paths: str) -> None: ...
def options(**named: str) -> None: ...
def positional(path: str, /) -> None: ...


def foreign() -> Any:
    connection = sqlite3.connect("foreign.db")
    connection.execute("CREATE TABLE t (a)")
    connection.close()
    return Engine.open("foreign.db").counts()


def text_file() -> Any:
    Path("notes.db").write_text("hello\n" * 1000)
    return Engine.open("notes.db").counts()


def two_engines() -> None:
    dispatcher = Dispatcher(store=SQLiteStore("jobs.db"))
    Engine.build(dispatcher), Engine.build(dispatcher)
    dispatcher.start()


def into_missing_folder() -> None:
    Engine.open("no/such/jobs.db").register(render).enqueue("a")


LIBRARY: dict[str, tuple[Callable[[Engine], object], list[str]]] = {
    "a typo in a job's name": (
        lambda e: e.enqueue("rendr", path="a"),
        ["no handler 'rendr'", "did you mean 'render'?", "registered: render"],
    ),
    "a typo in an argument": (
        lambda e: e.enqueue("render", "a", dip=3),
        ["job 'render': dip", "did you mean dpi?", "path, dpi"],
    ),
    "a missing argument": (lambda e: e.enqueue("render"), ["job 'render': path: is missing"]),
    "an argument of a wrong type": (
        lambda e: e.enqueue("render", path=5),
        ["path: Expected `str`, got `int`"],
    ),
    "an option given as an argument": (
        lambda e: e.enqueue("render", "a", delay=5),
        ["delay: is no argument of this job", ".options(delay=...).enqueue(...)"],
    ),
    "a typo in an option": (lambda e: e.options(dealy=5), ["dealy", "did you mean delay?"]),  # type: ignore[call-arg]
    "a negative delay": (lambda e: e.options(delay=-5), ["delay: must be from 0 s", "-5"]),
    "a naive datetime": (
        lambda e: e.options(run_at=datetime(2026, 1, 1)),
        ["run_at", "no time zone", "datetime.now(UTC)", ".astimezone()"],
    ),
    "a duration as text": (
        lambda e: e.options(timeout="soon", delay="5 min"),
        ["timeout: must be a duration such as", "'soon'; delay: must be", "'5m'"],
    ),
    "a typo in a setting": (lambda _: Engine.open("x.db", concurency=3), ["did you mean concurrency?"]),
    "no store": (lambda _: Dispatcher(), ["store: is required", "SQLiteStore('jobs.db')"]),
    "a path for a store": (lambda _: Dispatcher("jobs.db"), ["SQLiteStore('jobs.db')"]),  # type: ignore[arg-type]
    "a path for a dispatcher": (
        lambda _: Engine.build("jobs.db"),  # type: ignore[arg-type]
        ["dispatcher: must be a Dispatcher", "Engine.open('jobs.db')"],
    ),
    "an engine for its connection": (
        lambda e: e.options(connection=sqlalchemy.create_engine("sqlite://")).enqueue("render", "a"),
        ["connection= is the Engine, which makes connections", "Connection or Session of SQLAlchemy", "of Django"],
    ),
    "a session that is awaited": (
        lambda e: e.options(connection=AsyncSession()).enqueue("render", "a"),
        ["connection= is the AsyncSession, where statements are awaited", "when the transaction has been committed"],
    ),
    "no connection at all": (
        lambda e: e.options(connection="jobs.db").enqueue("render", "a"),
        ["connection= is a builtins.str", "to the store's file", "what SQLAlchemy or Django work with"],
    ),
    "no path": (lambda _: open_store(cast("Any", None)), ["location: must be a path or URL"]),
    "a missing folder": (lambda _: into_missing_folder(), ["cannot be created", "there is no folder", "no/such"]),
    "a foreign database": (lambda _: foreign(), ["foreign.db", "other tables", "another file", "shared=True", "?shared=1"]),
    "a file of another kind": (lambda _: text_file(), ["notes.db", "not an SQLite database"]),
    "a store that is not there yet": (lambda e: e.counts(), ["jobs.db: no store here", "jobs.db` makes it"]),
    "an unknown kind of store": (lambda _: open_store("mysql://x"), ["mysql:// names no store", "sqlite:///path"]),
    "two handlers of one name": (
        lambda e: e.register(render),
        ["job name 'render' is taken", "name= of its own"],
    ),
    "*args": (lambda e: e.register(files), ["'files' takes *paths", "list them one by one"]),
    "**kwargs": (lambda e: e.register(options), ["'options' takes **named", "take one dict"]),
    "positional-only": (lambda e: e.register(positional), ["'path'", "arguments go by name"]),
    "a method": (lambda e: e.register(Painter.paint), ["is a method", "has no 'self'", "use a function"]),
    "a lambda": (lambda e: e.register(lambda: None), ["no name of its own", "job(name=...)"]),
    "no function": (lambda e: e.register(5), ["a handler must be a function, not 5"]),  # type: ignore[arg-type]
    "a typo in the options of a handler": (
        lambda e: e.job(name="x", retries=3)(render),  # type: ignore[call-overload]
        ["retries: no such option", "did you mean max_retries?"],
    ),
    "a handler of no engine": (lambda _: job(render).enqueue("a"), ["belongs to no engine yet", "engine.register(render)"]),
    "a dict for a batch": (lambda e: e.enqueue_many("render", cast("Any", {"path": "a"})), ["iterable of mappings"]),
    "a typo in a batch": (lambda e: e.enqueue_many("render", [{"pth": "a"}]), ["[0].pth", "did you mean path?"]),
    "an id as text": (lambda e: e.get_job(cast("Any", "5")), ["job_id: must be a whole number, not '5'"]),
    "a job for its id": (lambda e: e.cancel(cast("Any", e.enqueue("render", "a"))), ["pass job.id"]),
    "an unknown state": (lambda e: e.list_jobs(state="done"), ["must be one of scheduled, pending", "'done'"]),
    "current_job outside": (lambda _: process_context.current_job(), ["only inside a handler"]),
    "two engines of one dispatcher": (lambda _: two_engines(), ["several engines", "its own dispatcher"]),
    "an engine in no module": (lambda e: e.dispatcher.start(), ["make it a global", "mpdispatch supervise"]),
}  # fmt: skip


@pytest.mark.parametrize("what", LIBRARY)
def test_a_mistake_in_a_program_is_told_with_its_remedy(engine: Engine, what: str) -> None:
    act, words = LIBRARY[what]
    with pytest.raises(DispatchError) as caught:
        act(engine)
    text = str(caught.value)
    assert [word for word in words if word not in text] == [], text
    assert not any(name in text for name in INTERNAL), text


def test_every_option_of_enqueue_is_recognised_among_the_arguments() -> None:
    assert EnqueueKeywords.__annotations__.keys() == OPTION_NAMES


def test_the_decorator_works_with_and_without_parentheses(engine: Engine) -> None:
    def one() -> int:
        return 1

    def two() -> int:
        return 2

    assert (engine.job(one)(), engine.job()(two)()) == (1, 2)
    assert {"one", "two"} <= engine.registry.names()


def test_stop_without_start_does_nothing(engine: Engine) -> None:
    engine.dispatcher.stop()


def test_enqueueing_while_a_worker_imports_the_app_is_refused(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_context, "_is_worker", True)
    for call in (
        lambda: engine.enqueue("render", "a"),
        lambda: engine.enqueue_many("render", [{"path": "a"}]),
        engine.dispatcher.start,
    ):
        with pytest.raises(WrongProcessError, match='put the call under `if __name__ == "__main__":`'):
            call()
    monkeypatch.setattr(process_context, "_engine", engine)
    assert engine.enqueue("render", "a").id == 1
    with pytest.raises(WrongProcessError, match="a worker runs jobs and supervises none"):
        engine.dispatcher.start()


# ---------------------------------------------------------------- why a job has not run


def why(engine: Engine, job_id: int) -> str:
    with pytest.raises(WaitTimeoutError) as caught:
        engine.wait(job_id, timeout=0)
    return str(caught.value)


def test_waiting_in_vain_tells_what_explain_tells(engine: Engine) -> None:
    def both_say(job_id: int, *codes: str) -> str:
        reasons = engine.explain(job_id)[1]
        assert [reason.code for reason in reasons] == [*codes]
        error = why(engine, job_id)
        assert [error.count(str(reason)) for reason in reasons] == [1] * len(codes)
        return error

    waiting = engine.enqueue("render", "a").id
    error = both_say(waiting, "no_supervisor")
    assert (
        "no supervisor is running ▸ mpdispatch supervise APP (in a program: `with engine.dispatcher:`)" in error
    )
    scheduled = engine.options(delay=3600).enqueue("render", "a").id
    assert "it is due at" in both_say(scheduled, "later", "no_supervisor")

    desk = Desk(engine.store, FakeClock(SystemClock().now().wall_us))
    other = engine.options(queue="bluk").enqueue("render", "a").id
    assert "no running supervisor polls queue 'bluk'; they poll default" in both_say(other, "not_polled")
    both_say(waiting, "due")
    assert "1 due job of its queue comes first" in both_say(engine.enqueue("render", "b").id, "turn")
    engine.pause_queue("default")
    assert "queue 'default' is paused ▸ mpdispatch resume default" in both_say(waiting, "paused")
    engine.resume_queue("default")
    claimed, *_ = desk.claim()
    assert "supervisor 1 (pid 4711 on here) claimed it at" in both_say(waiting, "running")
    desk.commit(retrying(claimed, desk.clock.now()))
    assert "attempt 1 ended with ValueError: no such page" in both_say(waiting, "later")
    desk.close()


def test_explain_tells_when_and_how_a_job_ended(engine: Engine) -> None:
    job_id = engine.enqueue("render", "a").id
    engine.cancel(job_id)
    (reason,) = engine.explain(job_id)[1]
    assert str(reason).startswith("it was cancelled at 20")


def test_explain_tells_a_job_cancelled_with_its_batch(engine: Engine) -> None:
    with engine.batch("pages") as batch:
        alone, together = (engine.enqueue("render", path).id for path in "ab")
    engine.cancel(alone)
    time.sleep(0.002)  # so that the batch is cancelled later
    batch.cancel()
    told = [str(engine.explain(job_id)[1][0]) for job_id in (alone, together)]
    assert ["with its batch" in text for text in told] == [False, True]
    assert f"Z, with its batch {batch.id} ▸ mpdispatch retry {together}" in told[1]


# ---------------------------------------------------------------- whole programs

TASKS = """
from mpdispatch import Engine
engine = Engine.open("jobs.db", concurrency=1)

@engine.job
def render(path: str, dpi: int = 300) -> None: ...
"""

COMMANDS: dict[str, tuple[list[str], int, list[str]]] = {
    "a typo in the attribute": (["supervise", "tasks:engin"], 70, ["'tasks' has no attribute 'engin'", "'engine'?"]),
    "a typo in the module": (["supervise", "taks:engine"], 70, ["no module 'taks' in", "Python's path"]),
    "no attribute": (["supervise", "tasks"], 2, ["takes the form module:attribute"]),
    "a function for an app": (["supervise", "tasks:render"], 70, ["neither an Engine nor"]),
    "a typo in a command": (["enqueu"], 2, ["'enqueue'"]),
    "a typo in a name": (["enqueue", "rendr", "-A", "tasks:engine"], 2, ["did you mean 'render'?"]),
    "text for a number": (
        ["enqueue", "render", "path=a", "dpi=5", "-A", "tasks:engine"],
        2,
        ["dpi: Expected `int`, got `str`; dpi=... is text, write dpi:=... for JSON"],
    ),
    "no JSON": (["enqueue", "render", "path:=a.pdf"], 2, ["Expecting value at column 1", "text is given as path=..."]),
    "a bad id": (["show", "abc"], 2, ["'abc' is not a valid job id"]),
    "no store yet": (["jobs"], 69, ["no store here", "`mpdispatch migrate --store "]),
    "no store named": (["enqueue", "x"], 2, ["no store here", "--store", "MPDISPATCH_STORE", "-A", "--create"]),
    "no store named to run": (["run", "--", "true"], 2, ["no store here", "--store", "--create"]),
    "no such folder": (["enqueue", "x", "--store", "no/such.db"], 73, ["there is no folder"]),
}  # fmt: skip


@pytest.mark.parametrize("what", COMMANDS)
def test_a_mistake_on_the_command_line_is_told_with_its_remedy(cli: Cli, tmp_path: Path, what: str) -> None:
    args, code, words = COMMANDS[what]
    (tmp_path / "tasks.py").write_text(TASKS)
    done = cli(*args)
    assert done.returncode == code, done.stderr
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_app_that_breaks_shows_the_users_own_lines_only(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(TASKS + "\n@engine.job\ndef files(*paths): ...\n")
    done = cli("supervise", "tasks:engine")
    assert done.returncode == 70
    assert "job 'files' takes *paths" in done.stderr.splitlines()[-1]
    assert done.stderr.count("does not import") == 1
    frames = [line for line in done.stderr.splitlines() if line.strip().startswith("File ")]
    assert len(frames) == 1
    assert "tasks.py" in frames[0]


@pytest.mark.parametrize("call", ["engine.dispatcher.start()", "engine.enqueue('render', 'a')"])
def test_a_forgotten_main_guard_is_named(tmp_path: Path, call: str) -> None:
    (tmp_path / "program.py").write_text(f"{TASKS}\n{call}\nengine.dispatcher.run(drain=True)\n")
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert 'put the call under `if __name__ == "__main__":`' in last
    assert last.count("does not import") == 1
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        jobs = (
            connection.execute("SELECT count(*) FROM mpdispatch_jobs").fetchone() if "enqueue" in call else (1,)
        )
    connection.close()
    assert jobs == (1,)  # the workers that imported the program enqueued no further ones

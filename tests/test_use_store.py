"""One truth of the store: what `use_store` names is enqueued into, looked at, and run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mpdispatch import Engine
from mpdispatch.store import open_store
from tests.conftest import ROOT, Cli

APP = """
from mpdispatch import Engine, WrongProcessError, current_engine

engine = Engine.open("old.db", concurrency=1)

@engine.job(max_retries=0)
def parent(n: int) -> int:
    return child.enqueue(n).id

@engine.job(max_retries=0)
def child(n: int) -> str:
    return current_engine().store.location.rpartition("/")[2]

@engine.job(max_retries=0)
def mover() -> str:
    try:
        engine.use_store("third.db")
    except WrongProcessError as error:
        return str(error)
    return "moved"
"""

WAYS = pytest.mark.parametrize(
    "way",
    [
        "engine.dispatcher.run(drain=True)",
        "with engine.dispatcher: engine.wait(engine.wait(job.id, 30).result, 30)",
    ],
    ids=["run", "with"],
)


def program(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    (folder / "tasks.py").write_text(APP)
    (folder / "program.py").write_text(f"from tasks import *\nif __name__ == '__main__':\n    {code}\n")
    return run(folder)


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done


def jobs_in(path: Path) -> list[tuple[str, str, object]]:
    jobs = Engine.open(path).list_jobs().items
    return [(job.name, job.state, job.result) for job in reversed(jobs)]


@WAYS
def test_a_dispatcher_runs_what_lies_in_the_store_its_engine_was_told_to_use(tmp_path: Path, way: str) -> None:
    moved = "child.enqueue(0); engine.use_store('new.db'); job = parent.enqueue(1)"
    program(tmp_path, f"{moved}\n    {way}")
    assert jobs_in(tmp_path / "new.db") == [("parent", "completed", 2), ("child", "completed", "new.db")]
    assert jobs_in(tmp_path / "old.db") == [("child", "pending", None)]


def test_an_app_that_moves_while_it_is_imported_is_supervised_where_it_enqueues(
    cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "moved.py").write_text(f"{APP}\nengine.use_store('new.db')\n")
    assert cli("enqueue", "parent", "n:=1", "-A", "moved:engine").stdout == "1\n"
    assert cli("supervise", "moved:engine", "--drain").returncode == 0
    assert jobs_in(tmp_path / "new.db") == [("parent", "completed", 2), ("child", "completed", "new.db")]
    assert not (tmp_path / "old.db").exists()
    assert cli("enqueue", "parent", "n:=1", "-A", "moved:engine", "--store", "third.db").stdout == "1\n"
    assert cli("supervise", "moved:engine", "--drain", "--store", "third.db").returncode == 0
    assert jobs_in(tmp_path / "third.db") == [("parent", "completed", 2), ("child", "completed", "third.db")]


def test_a_handler_cannot_move_its_worker(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(APP)
    cli("enqueue", "mover", "-A", "tasks:engine")
    cli("enqueue", "parent", "n:=1", "-A", "tasks:engine")
    assert cli("supervise", "tasks:engine", "--drain").returncode == 0
    (_, _, told), *others = jobs_in(tmp_path / "old.db")
    assert "use_store() was called in a handler" in str(told)
    assert others == [("parent", "completed", 3), ("child", "completed", "old.db")]
    assert not (tmp_path / "third.db").exists()


MOVER = """
from mpdispatch import Dispatcher, Engine, SQLiteStore, UsageError, hooks

def move():
    try:
        engine.use_store("new.db")
    except UsageError as error:
        print(error)

class Mover(hooks.Extension):
    def on_shutdown(self, event):
        move()

engine = Engine.build(Dispatcher(SQLiteStore("old.db"), concurrency=1), extensions=[Mover()])

if __name__ == "__main__":
    with engine.dispatcher:
        move()
    engine.dispatcher.run(drain=True)
    move()
    print(engine.dispatcher.store.location, engine.store.location)
"""


def test_it_is_refused_while_this_process_supervises(tmp_path: Path) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    refused = f"this dispatcher is at work on {old}, so it cannot use {new}; stop it first"
    # While it is started, when it stops, while it runs; and after that it is not.
    assert lines_of(tmp_path, MOVER) == [refused, refused, refused, f"{new} {new}"]


WAITING = """
from mpdispatch import UsageError
from mpdispatch.extension import DispatchExtension

ext = DispatchExtension(store="old.db", concurrency=1)
standby = DispatchExtension(store="old.db", concurrency=1)
said = DispatchExtension(store="old.db", supervise=False)

def told(extension):
    return extension.health()["supervises"], extension.health()["store"].rpartition("/")[2]

def move(extension):
    try:
        extension.engine.use_store("new.db")
    except UsageError as error:
        print(str(error).partition(" on ")[0])

if __name__ == "__main__":
    with ext, standby, said:
        for each in (ext, standby, said):
            move(each)
            print(*told(each))
    move(standby)
    with ext, standby:
        print(*told(ext), *told(standby))
"""


def test_it_is_refused_while_an_extension_supervises_or_waits_to(tmp_path: Path) -> None:
    assert lines_of(tmp_path, WAITING) == [
        "this dispatcher is at work",
        "True old.db",
        "this dispatcher is at work",
        "False old.db",
        "False new.db",
        "True old.db True new.db",
    ]


def lines_of(folder: Path, text: str) -> list[str]:
    """What a program with this text prints."""
    (folder / "program.py").write_text(text)
    return run(folder).stdout.splitlines()


def test_the_durability_of_a_dispatcher_goes_with_it(tmp_path: Path) -> None:
    engine = Engine.open(tmp_path / "old.db", durability="process")
    engine.use_store(str(tmp_path / "new.db"))
    assert engine.store.said_durability == "process"
    engine.use_store(f"sqlite:///{tmp_path}/said.db?durability=full")
    assert engine.store.said_durability == "full"
    plain = Engine.open(tmp_path / "old.db")
    plain.dispatcher.use_store(open_store(tmp_path / "new.db"))
    assert plain.store.said_durability is None

"""Apps that a function makes: named by the function, or put together again by workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.test_stopping_a_start import run

APP = """
from mpdispatch import Engine, current_engine

class Shop:
    def __init__(self, engine):
        self.engine = engine

def made():
    engine = Engine.open("jobs.db", concurrency=1, poll_interval=0.1)

    @engine.job
    def double(n: int) -> int:
        assert set(current_engine().registry.names()) == {"double"}
        return 2 * n

    return engine

def shop():
    return Shop(made())

def needs(path, *, name, more=1): ...
def other(): return 3
def broken(): return 1 / 0
async def late(): return made()

class Unready:
    @property
    def engine(self): raise LookupError("not configured")

unready = Unready()
def unready_made(): return unready

engine = made()
"""


@pytest.mark.parametrize("target", ["app:made", "app:shop", "app:engine"])
def test_a_factory_names_an_app_for_every_command(cli: Cli, tmp_path: Path, target: str) -> None:
    (tmp_path / "app.py").write_text(APP)
    env = {"MPDISPATCH_APP": target}
    assert cli("enqueue", "double", "n:=1", "-A", target).stdout == "1\n"
    assert cli("enqueue", "double", "n:=2", env=env).stdout == "2\n"
    assert "no handler 'treble'" in cli("enqueue", "treble", env=env).stderr
    # Two of them, so that the second comes from the zygote, which has called the factory itself.
    done = cli("supervise", target, "--drain")
    assert done.returncode == 0, done.stderr
    assert cli("enqueue", "double", "n:=3", env=env).stdout == "3\n"
    assert cli("supervise", "--drain", env=env).returncode == 0
    said = cli("wait", "1", "2", "3", "--store", "jobs.db").stdout
    assert said == "1 completed 2\n2 completed 4\n3 completed 6\n"


@pytest.mark.parametrize(
    ("attribute", "said"),
    [
        ("needs", "needs arguments (path, name); a factory of an app is called without any"),
        ("other", "is a factory, and what it returned is a int, neither an Engine nor an object with .engine"),
        ("broken", "ZeroDivisionError"),
        ("unready", "app 'app:unready' does not import: LookupError: not configured"),
        ("unready_made", "app 'app:unready_made' does not import: LookupError: not configured"),
        ("late", "is an async function"),
        ("Shop", "needs arguments (engine)"),
    ],
)
def test_what_is_no_factory_says_why(cli: Cli, tmp_path: Path, attribute: str, said: str) -> None:
    (tmp_path / "app.py").write_text(APP)
    for done in (
        cli("supervise", f"app:{attribute}", "--drain", "--store", "jobs.db"),
        cli("enqueue", "double", "n:=1", "-A", f"app:{attribute}"),
    ):
        assert done.returncode == 70, done
        assert said in done.stderr
        assert "internal error" not in done.stderr


# ---------------------------------------------------------------- an engine inside a function

TASKS = """
from mpdispatch import current_engine, hooks, job

@job(timeout=50)
def double(n: int) -> int:
    return 2 * n

def treble(n: int) -> int:
    # By its own handle, and by the engine it works for.
    return double.enqueue(n).id + current_engine().enqueue("double", n).id

def loud(context, call_next):
    result = call_next(context)
    return f"{result}!" if context.name == "shout" else result

def shout(text: str) -> str:
    return text.upper()

class Count(hooks.Extension):
    name = "count"
    seen = 0
    def on_job_enqueued(self, event):
        self.seen += 1

count = Count()
"""
MAIN = """
import sys
from mpdispatch import AppReferenceError, Dispatcher, Engine, SQLiteStore, middleware
import tasks

def here(n: int) -> int:
    return n + 1

def main():
    engine = Engine.build(
        Dispatcher(SQLiteStore("jobs.db"), concurrency=1, poll_interval=0.1),
        middleware=[tasks.loud],
        extensions=[tasks.count],
    )
    engine.register(tasks.double)
    engine.register(tasks.treble)
    engine.job(name="shout", max_retries=0)(tasks.shout)
{more}
    with engine.dispatcher:
        assert engine.wait(engine.enqueue("treble", 2).id, timeout=30).result == 5
        print(engine.wait(engine.enqueue("shout", "hey").id, timeout=30).result)
        print([engine.wait(n, timeout=30).result for n in (2, 3)], engine.get_job(2).timeout)
        engine.register(here)
        print(engine.wait(engine.enqueue("here", 1).id, timeout=30).result)
    engine.hooks.queue().drain(5)
    print(tasks.count.seen)

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("home", ["tasks", "__main__"])
def test_an_engine_in_a_function_works_if_all_it_has_is_importable(tmp_path: Path, home: str) -> None:
    (tmp_path / "tasks.py").write_text(TASKS + "\ndef here(n): return n + 1\n")
    program = MAIN.format(more="    pass" if home == "tasks" else "    engine.register(here)")
    late = "        engine.register(here)\n"
    program = program.replace(late, late.replace("here", "tasks.here") if home == "tasks" else "")
    assert run(tmp_path, program) == "HEY!\n[4, 4] 50.0\n2\n5\n"


def test_an_extension_in_a_factory_works_as_well(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    program = """
    import tasks
    from mpdispatch.extension import DispatchExtension

    def create():
        ext = DispatchExtension(store="jobs.db", concurrency=1)
        ext.engine.register(tasks.double)
        return ext

    if __name__ == "__main__":
        with create() as ext:
            print(ext.engine.wait(tasks.double.enqueue(4).id, timeout=30).result)
    """
    assert run(tmp_path, program) == "8\n"


@pytest.mark.parametrize(
    ("more", "lost"),
    [
        (
            "engine.job(lambda n: n) if False else engine.job(name='x')(lambda: 1)",
            "handler 'x' (__main__:main.<locals>",
        ),
        ("engine.middleware = (middleware.Logging(),)", "the Logging "),
    ],
)
def test_an_engine_in_a_function_with_a_part_nobody_could_import_is_refused(
    tmp_path: Path, more: str, lost: str
) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    body = MAIN.format(more=f"    {more}").replace(
        "    main()", "    try:\n        main()\n    except AppReferenceError as error:\n        print(error)"
    )
    said = run(tmp_path, body)
    assert lost in said
    assert "make it a global of its module (engine = ... at the top level)" in said

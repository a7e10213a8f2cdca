"""A worker finds the very engine, and all of its handlers, however the program was started."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

import mpdispatch
from mpdispatch.errors import AppReferenceError
from mpdispatch.execution.app_reference import AppReference, find_reference, parse_target, reference_to
from mpdispatch.handlers.registry import Registry

PACKAGE_PARENT = str(Path(mpdispatch.__file__).parents[1])

# What a worker does with a reference, in a process of its own; prints the names it can run.
WORKER = """
import sys, msgspec
from mpdispatch.errors import DispatchError
from mpdispatch.execution.app_reference import AppReference
from mpdispatch.execution.process_context import enter_worker
from mpdispatch.execution.loading import load
enter_worker()
try:
    engine = load(msgspec.json.decode(sys.argv[1].encode(), type=AppReference))
except DispatchError as error:
    print(type(error).__name__, error, getattr(error, "traceback", ""))
else:
    print(*sorted(engine.registry.names()))
"""
# Put at the end of a program: prints the reference to its engine.
TELL = """
if __name__ == "__main__":
    import msgspec
    from mpdispatch.execution.app_reference import find_reference
    print(msgspec.json.encode(find_reference(engine)).decode())
"""


def run(folder: Path, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": PACKAGE_PARENT, "PATH": "/usr/bin:/bin"},
    )


def names_in_worker(reference: str, folder: Path) -> str:
    done = run(folder, "-c", WORKER, reference)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def reference_from(folder: Path, *args: str) -> str:
    done = run(folder, *args)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write(folder: Path, **modules: str) -> None:
    for name, text in modules.items():
        path = folder / (name.replace("__in__", "/") + ".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))


ENGINE = """
from mpdispatch import Engine
engine = Engine.open("jobs.db")
"""
HANDLER = """
@engine.job
def {name}(): ...
"""


def test_an_engine_in_a_module_is_found_there(tmp_path: Path) -> None:
    write(tmp_path, tasks=ENGINE + HANDLER.format(name="resize"), main="from tasks import engine" + TELL)
    reference = reference_from(tmp_path, "main.py")
    assert json.loads(reference)["target"] == "tasks:engine"
    assert json.loads(reference)["main_path"] is None
    # From another folder: the reference carries what was importable.
    (tmp_path / "elsewhere").mkdir()
    assert names_in_worker(reference, tmp_path / "elsewhere") == "resize"


def test_an_engine_in_the_main_script_is_found_by_running_it_again(tmp_path: Path) -> None:
    write(tmp_path, main=ENGINE + HANDLER.format(name="resize") + TELL)
    reference = reference_from(tmp_path, "main.py")
    assert json.loads(reference)["main_path"] == str(tmp_path / "main.py")
    assert names_in_worker(reference, tmp_path) == "resize"
    assert not (tmp_path / "__pycache__").exists()


def test_a_main_script_without_suffix_and_with_dataclasses_runs_again(tmp_path: Path) -> None:
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n" + ENGINE
    text += "@dataclass\nclass Size:\n    width: int\n@engine.job\ndef resize(size: Size): ...\n" + TELL
    (tmp_path / "start").write_text(text)
    assert names_in_worker(reference_from(tmp_path, "start"), tmp_path) == "resize"


def test_an_engine_in_a_main_module_is_found_by_its_name(tmp_path: Path) -> None:
    write(
        tmp_path,
        shop__in____init__="",
        shop__in__base="PREFIX = 'x'",
        shop__in__app="from .base import PREFIX\n" + ENGINE + HANDLER.format(name="resize") + TELL,
    )
    reference = reference_from(tmp_path, "-m", "shop.app")
    assert json.loads(reference)["main_module"] == "shop.app"
    assert names_in_worker(reference, tmp_path) == "resize"


def test_handlers_in_further_modules_and_in_main_come_along(tmp_path: Path) -> None:
    write(
        tmp_path,
        app=ENGINE,
        jobs="from app import engine" + HANDLER.format(name="resize"),
        main="import jobs\nfrom app import engine" + HANDLER.format(name="mail") + TELL,
    )
    assert names_in_worker(reference_from(tmp_path, "main.py"), tmp_path) == "mail resize"


def test_an_object_that_carries_the_engine_is_found(tmp_path: Path) -> None:
    write(
        tmp_path,
        app="class App:\n    def __init__(self):\n        from mpdispatch import Engine\n"
        "        self.engine = Engine.open('jobs.db')\napp = App()\n@app.engine.job\ndef resize(): ...\n",
        main="import app\nengine = None\ndef tell():\n    global engine\n    engine = app.app.engine\n"
        "if __name__ == '__main__':\n    import msgspec\n"
        "    from mpdispatch.execution.app_reference import find_reference\n"
        "    print(msgspec.json.encode(find_reference(app.app.engine)).decode())\n",
    )
    reference = reference_from(tmp_path, "main.py")
    assert json.loads(reference)["target"] == "app:app"
    assert names_in_worker(reference, tmp_path) == "resize"


def test_an_engine_of_stdin_or_dash_c_is_refused_with_both_remedies(tmp_path: Path) -> None:
    program = ENGINE + HANDLER.format(name="resize") + TELL
    for done in (run(tmp_path, "-c", program), run(tmp_path, "-", stdin=program)):
        assert "AppReferenceError" in done.stderr
        assert "module that can be imported" in done.stderr
        assert "script file" in done.stderr


def test_an_engine_in_no_module_is_refused_with_both_remedies() -> None:
    engine = SimpleNamespace(registry=Registry(), describe=lambda: None, use_store=lambda location: None)
    with pytest.raises(AppReferenceError, match=r"no module has this engine.*script file"):
        find_reference(engine)


def test_a_main_script_that_starts_unguarded_is_told_what_to_do(tmp_path: Path) -> None:
    write(tmp_path, main=ENGINE + HANDLER.format(name="resize") + TELL + "\nengine.dispatcher.start()\n")
    reference = msgspec.json.encode(AppReference(target="__main__:engine", main_path=str(tmp_path / "main.py")))
    said = names_in_worker(reference.decode(), tmp_path)
    assert said.startswith("AppImportError")
    assert 'if __name__ == "__main__":' in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_module_here", "ModuleNotFoundError"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("engine = 3", "neither an Engine nor an object with .engine"),
        ("", "no attribute 'engine'"),
    ],
)
def test_an_app_that_does_not_load_says_why(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, app=text)
    reference = msgspec.json.encode(AppReference(target="app:engine", sys_path=(str(tmp_path), *sys.path)))
    assert said in names_in_worker(reference.decode(), tmp_path)


def test_a_typed_target_makes_the_current_folder_importable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reference = reference_to("shop.jobs:app.engine")
    assert reference.sys_path[0] == str(tmp_path)
    assert parse_target(reference.target) == ("shop.jobs", "app.engine")


@pytest.mark.parametrize(
    "text", ["tasks", "tasks:", ":engine", "a b:engine", "tasks:1x", "../tasks:engine", ""]
)
def test_a_target_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(AppReferenceError, match="module:attribute"):
        parse_target(text)

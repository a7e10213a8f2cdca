"""What is shown of a store: its display, never its location, which may hold a password."""

from __future__ import annotations

import ast
import doctest
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mpdispatch import Dispatcher, Engine, SQLiteStore
from mpdispatch.cli.locate import refuse_unshared
from mpdispatch.errors import UsageError
from mpdispatch.store import display

ROOT = Path(__file__).parents[1] / "mpdispatch"

OPENS_IT_AGAIN = {
    "dispatcher.py": 1,
    "supervisor/startup.py": 2,
    "cli/commands/enqueue.py": 1,
    "cli/clients.py": 4,  # one is that of an error, which has its display
    "host/runtime_folder.py": 1,  # to name a folder after it, without a password
}
"""Files above the stores that ask for a location, and how often; `handlers/description` does with `getattr`."""


class Secret(SQLiteStore):
    """As a store on a server would be: who knows its location can open it."""

    @property
    def location(self) -> str:
        return "postgresql://ann:s3cret@db/jobs"

    @property
    def display(self) -> str:
        return "postgresql://ann:***@db/jobs"


def test_no_other_file_asks_for_a_location() -> None:
    found = dict[str, int]()
    for path in ROOT.rglob("*.py"):
        name = str(path.relative_to(ROOT))
        asks = [
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute) and node.attr == "location" and isinstance(node.ctx, ast.Load)
        ]
        if asks and not name.startswith(("store/", "errors/")):
            found[name] = len(asks)
    assert found == OPENS_IT_AGAIN


def test_an_engine_and_its_dispatcher_show_no_password(tmp_path: Path) -> None:
    store = Secret(tmp_path / "jobs.db")
    store.migrate()
    engine = Engine.build(Dispatcher(store))
    assert engine.stats()["store"] == store.display
    for shown in (repr(engine), repr(engine.dispatcher), repr(store)):
        assert "***" in shown
        assert "s3cret" not in shown
    store.close()


def test_an_error_shows_no_password() -> None:
    with pytest.raises(UsageError, match=r"ann:\*\*\*@db") as caught:
        refuse_unshared(Secret(":memory:"))
    assert "s3cret" not in str(caught.value)


def test_a_location_is_shown_without_its_password() -> None:
    assert doctest.testmod(display) == doctest.TestResults(0, 2)


def test_config_check_shows_no_password(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "mpdispatch",
        "--json",
        "--store",
        Secret(":memory:").location,
        "config",
        "check",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    told = json.loads(done.stdout)["settings"]["store"]
    assert told == {"value": "postgresql://ann:***@db/jobs", "source": "--store"}

"""The fixture that pytest finds by itself, in a test run of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

TESTS = """
    import pytest
    from mpdispatch import testing
    from tasks import double, engine

    @pytest.fixture(autouse=True)
    def jobs(isolated_engine):
        return isolated_engine(engine)

    @pytest.mark.parametrize("time", [1, 2])
    def test_each_has_an_empty_store(time):
        double.options(delay="1h").enqueue(1)
        assert sum(engine.counts().values()) == 1
        testing.clock(engine).advance("1h")
        assert testing.drain(engine)[0].result == 2

    def test_a_file_of_its_own(isolated_engine, tmp_path):
        assert isolated_engine(engine, tmp_path / "jobs.db") is engine
        double.enqueue(1)
        assert (tmp_path / "jobs.db").exists()

    def test_at_the_end():
        assert engine.store.is_shared is False
"""
TASKS = """
    from mpdispatch import Engine
    engine = Engine.open("jobs.db")

    @engine.job
    def double(number: int) -> int:
        return 2 * number
"""


def run(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    (folder / "tasks.py").write_text(textwrap.dedent(TASKS))
    (folder / "test_tasks.py").write_text(textwrap.dedent(TESTS))
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_the_fixture_gives_each_test_a_store_and_puts_the_engines_back(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout
    assert not (tmp_path / "jobs.db").exists()


def test_pytest_loads_little_for_those_who_do_not_use_it(tmp_path: Path) -> None:
    code = (
        "import sys, pytest; pytest.main(['--version']);"
        "print([name for name in sys.modules if name.startswith('mpdispatch.')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    rooms = {name.split(".")[1] for name in done.stdout.split("'") if name.startswith("mpdispatch.")}
    assert rooms <= {"errors", "clock", "testing"}, rooms

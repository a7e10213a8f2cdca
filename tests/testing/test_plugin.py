"""The fixture that pytest finds by itself, in a test run of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

from mpdispatch import testing

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


def pytest_in(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_the_fixture_gives_each_test_a_store_and_puts_the_engines_back(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(textwrap.dedent(TASKS))
    (tmp_path / "test_tasks.py").write_text(textwrap.dedent(TESTS))
    done = pytest_in(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout
    assert not (tmp_path / "jobs.db").exists()


def test_the_example_of_the_module_is_whole(tmp_path: Path) -> None:
    text = textwrap.dedent(testing.__doc__.partition("\n\n")[2].partition("What there is:")[0])  # type: ignore[union-attr]
    _, *files = re.split(r"^# (\w+\.py)\n", text, flags=re.MULTILINE)
    assert files[::2] == ["shop.py", "conftest.py", "test_shop.py"]
    for name, content in zip(files[::2], files[1::2], strict=True):
        (tmp_path / name).write_text(content)
    done = pytest_in(tmp_path)
    assert "3 passed" in done.stdout, done.stdout


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

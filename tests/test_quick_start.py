"""`mpdispatch enqueue` in a line of a crontab: it starts quickly, and two hundred at once do no harm."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from mpdispatch.store import SQLiteStore

from .conftest import ROOT

_RATIO = 2.5
"""As long as this many imports of click."""
_ARGV = ["mpdispatch", "enqueue", "x", "k=v", "--store", "jobs.db"]
_ENQUEUE = f"import sys; from mpdispatch.cli import main; sys.argv = {_ARGV}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a store."""
    store = SQLiteStore(tmp_path / "jobs.db")
    store.migrate()
    store.close()
    return tmp_path


def _environment(folder: Path) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MPDISPATCH_", "PYTHON"))}
    # What is imported twice is compiled once.
    return {**clean, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(folder / "pyc")}


def test_it_loads_nothing_that_only_others_need(folder: Path) -> None:
    code = f"{_ENQUEUE}\ntry:\n    main()\nfinally:\n    print('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=_environment(folder),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    loaded = set(done.stderr.split())
    assert "mpdispatch.store.sqlite.store" in loaded
    rooms = {"dispatcher", "events", "extension", "hooks", "pool", "supervisor", "web"}
    assert {name for name in loaded if name.split(".")[1:2] and name.split(".")[1] in rooms} == set()
    ours = {
        "cli.commands.jobs",
        "engine.engine",
        "engine.enqueueing",
        "engine.offload",
        "execution.app_reference",
        "execution.job_context",
        "execution.loading",
        "handlers.registry",
        "handlers.signature",
        "policy.cron",
        "store.postgres",
        "store.redis",
        "store.sql.claim",
        "store.sql.supervisor_store",
        "store.sqlite.health",
        "store.sqlite.supervisor_store",
        "store.sqlite.unreadable",
        "store.sqlite.upkeep",
    }
    assert loaded & {f"mpdispatch.{name}" for name in ours} == set()
    others = {
        "asyncio",
        "cronsim",
        "ctypes",
        "json",
        "logging",
        "multiprocessing",
        "psutil",
        "random",
        "rich",
        "socket",
    }
    others |= {
        "click.shell_completion",
        "sqlite_utils",
        "string",
        "subprocess",
        "tempfile",
        "traceback",
        "yaml",
    }
    assert loaded & others == set()


@pytest.mark.serial
def test_it_takes_little_longer_than_the_import_of_click(folder: Path) -> None:
    """By the CPU time of the fastest of some runs: what else runs on this machine changes that least."""
    environment = _environment(folder)

    def cpu_s(code: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    codes = {"click": "import click", "enqueue": f"{_ENQUEUE}; main()"}
    for code in codes.values():
        cpu_s(code)
    best = {name: min(cpu_s(code) for _ in range(20)) for name, code in codes.items()}
    assert best["enqueue"] <= _RATIO * best["click"], best

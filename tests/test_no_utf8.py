"""Bytes that are no UTF-8: a path of them works everywhere, a name or text of them is refused by its option."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mpdispatch import Engine
from mpdispatch.errors import UsageError
from mpdispatch.store import SQLiteStore
from tests.conftest import EMPTY, ROOT, Cli

BYTE = "\udcff"  # what Python makes of the byte 0xff

TASKS = """
from mpdispatch import Engine, current_engine

engine = Engine.open("jobs.db", concurrency=1)

@engine.job(max_retries=0)
def first(n: int) -> int:
    return second.enqueue(n + 1).id

@engine.job(max_retries=0)
def second(n: int) -> int:
    return n

if __name__ == "__main__":
    job = first.enqueue(5)
    engine.dispatcher.run(drain=True)
    print(engine.wait(engine.wait(job.id).result).result, ascii(engine.store.location))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose name is no UTF-8."""
    folder = tmp_path / f"d{BYTE}"
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    (folder / "tasks.py").write_text(TASKS)
    return folder


def python(folder: Path, *args: str, env: Mapping[str, str] = EMPTY) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MPDISPATCH_")}
    return subprocess.run(
        [sys.executable, *args],
        cwd=folder,
        env={**clean, "PYTHONPATH": ROOT, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "args",
    [
        ["jobs", "--name", BYTE],
        ["jobs", "--queue", f"a{BYTE}"],
        ["dlq", "list", "--name", BYTE],
        ["dlq", "list", "--queue", BYTE],
        ["dlq", "purge", "--name", BYTE],
        ["dlq", "purge", "--queue", BYTE],
        ["jobs", "--cursor", BYTE],
        ["pause", BYTE],
        ["enqueue", BYTE],
        ["enqueue", "x", f"{BYTE}=1"],
        ["enqueue", "x", f"n={BYTE}"],
        ["enqueue", "x", "--queue", BYTE],
        ["enqueue", "x", "--idempotency-key", BYTE],
        ["run", "--env", f"A={BYTE}", "--", "true"],
        ["run", "--", "echo", BYTE],
    ],
    ids=lambda args: ascii(" ".join(args)),
)
def test_a_text_that_is_no_utf8_is_a_usage_error(cli: Cli, tmp_path: Path, args: list[str]) -> None:
    SQLiteStore(tmp_path / "mpdispatch.db").migrate()
    done = cli(*args)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert r"\udcff" in done.stderr or "UTF-8" in done.stderr or "valid Unicode" in done.stderr
    assert json.loads(cli("jobs", "--json").stdout) == []


def test_the_library_refuses_such_a_filter_by_its_name(tmp_path: Path) -> None:
    engine = Engine.open(tmp_path / "jobs.db")
    engine.store.migrate()
    for call, field in (
        (lambda: engine.list_jobs(name=BYTE), "name"),
        (lambda: engine.list_jobs(queue=BYTE), "queue"),
        (lambda: engine.list_jobs(name=object()), "name"),
        (lambda: engine.dead_letters.list(queue=BYTE), "queue"),
        (lambda: engine.dead_letters.count(BYTE), "queue"),
        (lambda: engine.dead_letters.purge(name=BYTE), "name"),
    ):
        with pytest.raises(UsageError, match=f"^{field}: must be text that is valid UTF-8, not "):
            call()


@pytest.mark.parametrize(
    "text",
    ["x", ":kill", "x:frob", "x:sleep", "x:sleep=abc", "x:sleep=nan", "x:kill=3", "x:kill@z", "x:kill@0", f"a:kill,{BYTE}"],
)  # fmt: skip
def test_a_failpoint_that_is_none_exits_78_naming_the_variable(cli: Cli, text: str) -> None:
    done = cli("enqueue", "x", "--store", "jobs.db", env={"MPDISPATCH_FAILPOINTS": text})
    assert (done.returncode, done.stdout) == (78, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("mpdispatch: MPDISPATCH_FAILPOINTS: ")
    assert "actions are kill, stop, raise and sleep=SECONDS" in line


def test_failpoints_that_are_some_act(cli: Cli) -> None:
    args = ("enqueue", "x", "--store", "jobs.db")
    armed = "other.place:stop@3,enqueue.before_commit:sleep=0.01,enqueue.after_commit:kill@1"
    assert cli(*args, env={"MPDISPATCH_FAILPOINTS": armed}).returncode == -9


def test_commands_and_a_supervisor_work_in_a_folder_that_is_no_utf8(folder: Path) -> None:
    def run(*args: str, code: int = 0) -> str:
        done = python(folder, "-m", "mpdispatch", *args)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    assert run("enqueue", "first", "n:=1", "-A", "tasks:engine") == "1\n"
    run("supervise", "tasks:engine", "--drain")
    paths = [
        "jobs.db",
        str(folder / "jobs.db"),
        f"sqlite:///{folder}/jobs.db",
        SQLiteStore(folder / "jobs.db").location,
    ]
    for store in [("-A", "tasks:engine"), *(("--store", path) for path in paths)]:
        jobs = json.loads(run("jobs", "--json", *store))
        assert [(job["name"], job["result"]) for job in jobs] == [("second", 2), ("first", 2)]
    assert "%FF/jobs.db: schema version" in run("migrate", "--store", "jobs.db")
    for command in ("workers", "stats", "queues", "dlq list", "explain 1", "show 1"):
        run(*command.split(), "--store", "jobs.db")
    run("supervise", "nowhere:engine", "--store", "jobs.db", code=70)
    missing = python(folder, "-m", "mpdispatch", "jobs", "--store", f"{BYTE}/jobs.db")
    assert missing.returncode == 69
    assert "no store here" in missing.stderr


def test_a_program_supervises_in_a_folder_that_is_no_utf8(folder: Path) -> None:
    done = python(folder, "tasks.py", f"argument {BYTE}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("6 'sqlite:////")


def test_a_job_joins_a_transaction_in_a_file_whose_name_is_no_utf8(folder: Path) -> None:
    engine = Engine.build(_dispatcher(folder / "app.db"))
    engine.job(name="quick")(_quick)
    connection = sqlite3.connect(os.fsencode(folder / "app.db"), isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    engine.store.migrate()
    for factory in (str, bytes):
        connection.text_factory = factory
        connection.execute("BEGIN")
        engine.options(connection=connection).enqueue("quick")
        connection.execute("COMMIT")
        assert connection.text_factory is factory
    other = sqlite3.connect(":memory:")
    with pytest.raises(UsageError, match="is open on no file"):
        engine.options(connection=other).enqueue("quick")
    assert len(engine.list_jobs().items) == 2
    connection.close()
    other.close()


def _dispatcher(path: Path) -> object:
    from mpdispatch import Dispatcher

    return Dispatcher(SQLiteStore(path, shared=True), concurrency=1)


def _quick() -> None: ...

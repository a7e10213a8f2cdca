"""`batches` and `batch` against a real store, with a real supervisor, and on a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.cli import batch_texts as texts
from mpdispatch.cli.progress import bar
from mpdispatch.model import BatchInfo, JobState
from mpdispatch.model.json import moment_of

from .conftest import ROOT, Cli
from .terminal import Terminal, on_terminal

TASKS = """
import time
from pathlib import Path
from mpdispatch import Engine

engine = Engine.open("jobs.db", concurrency=2)

@engine.job(max_retries=0)
def measure(n: int) -> int:
    if n % 10 == 7:
        raise OSError(f"no {n}") if n == 17 else ValueError(f"no {n}")
    return n

@engine.job
def until_file(name: str) -> None:
    while not Path(name).exists():
        time.sleep(0.01)

@engine.job
def report(batch: int) -> int:
    return batch
"""
KEYS = ["id", "name", "created_at", "ended_at", "total", "counts", "progress", "eta_s", "callbacks"]
STORE = ("--store", "jobs.db")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(TASKS)
    return tmp_path


def program(folder: Path, code: str) -> None:
    """Run this code with the app."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MPDISPATCH_")}
    argv = [sys.executable, "-c", f"from tasks import *\n{code}"]
    subprocess.run(argv, check=True, env={**clean, "PYTHONPATH": ROOT}, cwd=folder, timeout=60)


def thirty(folder: Path) -> None:
    """Batch 1: thirty measurements, of which three will fail."""
    program(
        folder,
        "with engine.batch('thirty', on_end=report, max_fails=0.5):\n"
        "    for n in range(30): measure.enqueue(n)",
    )


def shown(cli: Cli, *args: str) -> Any:
    done = cli(*args, "--json", *STORE)
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_a_batch_from_its_beginning_to_its_end(cli: Cli, folder: Path) -> None:
    thirty(folder)
    before = shown(cli, "batch", "1")
    assert list(before)[: len(KEYS)] == KEYS
    assert (before["total"], before["counts"]["pending"], before["progress"], before["eta_s"]) == (
        30,
        30,
        0,
        None,
    )
    assert before["callbacks"] == {"on_end": {"name": "report", "job_id": None}}
    assert (before["is_open"], before["max_fail_share"], before["ended_at"]) == (False, 0.5, None)
    assert cli("supervise", "tasks:engine", "--drain").returncode == 1
    after = shown(cli, "batch", "1")
    assert (after["counts"]["completed"], after["counts"]["failed"], after["progress"]) == (27, 3, 1)
    assert after["callbacks"]["on_end"]["job_id"] == 31
    assert shown(cli, "show", "31")["result"] == 1
    lines = cli("batch", "1", *STORE).stdout.splitlines()
    facts = dict(line.split(maxsplit=1) for line in lines[: lines.index("")])
    assert facts["progress"].startswith("100 % (30 of 30), ")
    assert (facts["jobs"], facts["state"], facts["max_fails"]) == (
        "27 completed, 3 failed",
        "ended",
        "0.5 of all",
    )
    assert facts["on_end"] == "report, as job 31"
    failed = lines[lines.index("") + 1 :]
    assert failed[0].split() == ["failed", "name", "arguments", "error"]
    assert failed[1].split() == ["8", "measure", "n:=7", "ValueError:", "no", "7"]
    assert len(failed) == 4


def test_of_many_failures_the_first_are_shown_and_all_are_counted(cli: Cli, folder: Path) -> None:
    program(folder, "measure.enqueue_many({'n': 10 * n + 7} for n in range(40))")
    cli("supervise", "tasks:engine", "--drain")
    lines = cli("batch", "1", *STORE).stdout.splitlines()
    groups, members = lines[lines.index("") + 1 :][:3], lines[-12:]
    assert [line.split()[0] for line in groups] == ["count", "39", "1"]
    assert ("ValueError: no" in groups[1], "OSError: no" in groups[2]) == (True, True)
    assert [line.split()[0] for line in members[:-1]] == ["failed", *map(str, range(1, 11))]
    assert members[-1] == "and 30 more: mpdispatch jobs --batch 1 --state failed --all"
    assert len(shown(cli, *members[-1].partition("mpdispatch ")[2].split())) == 40


def test_watching_gives_the_outcome_as_exit_code(cli: Cli, folder: Path) -> None:
    thirty(folder)
    program(folder, "measure.enqueue_many({'n': n} for n in range(5))")
    cli("supervise", "tasks:engine", "--drain")
    assert cli("batch", "1", "--watch", *STORE).returncode == 1
    assert cli("batch", "2", "--watch", *STORE).returncode == 0
    watched = cli("batch", "2", "--watch", "--json", *STORE)
    assert json.loads(watched.stdout)["counts"]["completed"] == 5


def test_what_failed_is_retried_once(cli: Cli, folder: Path) -> None:
    thirty(folder)
    cli("supervise", "tasks:engine", "--drain")
    assert cli("batch", "1", "--retry-failed", *STORE).stdout == "batch 1: 3 jobs that failed run again\n"
    assert cli("batch", "1", "--retry-failed", *STORE).stdout == "batch 1: no job of it has failed\n"
    assert shown(cli, "batch", "1")["counts"]["pending"] == 3
    (folder / "tasks.py").write_text(TASKS.replace("n % 10 == 7", "n == -1"))
    assert cli("supervise", "tasks:engine", "--drain").returncode == 0
    assert shown(cli, "batch", "1")["counts"]["completed"] == 30


def test_cancelling_and_closing(cli: Cli, folder: Path) -> None:
    program(
        folder,
        "with engine.batch('open', open=True, on_end=report):\n"
        "    measure.enqueue_many({'n': n} for n in range(3))\n"
        "with engine.batch('other', open=True): measure.enqueue(1)",
    )
    assert "open: it takes more jobs" in cli("batch", "1", *STORE).stdout
    assert cli("batch", "1", "--cancel", *STORE).stdout == "batch 1 is cancelled: 3 cancelled\n"
    again = cli("batch", "1", "--cancel", *STORE)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == "mpdispatch: batch 1 has ended; nothing of it is left to cancel\n"
    assert cli("batch", "2", "--close", *STORE).stdout == "batch 2 is closed: 1 pending\n"
    assert cli("batch", "2", "--close", *STORE).stdout == "batch 2 was closed: 1 pending\n"
    both = cli("batch", "2", "--close", "--cancel", *STORE)
    assert (both.returncode, both.stdout) == (2, "")
    assert "give one of them" in both.stderr


def test_lists(cli: Cli, folder: Path) -> None:
    program(folder, "for n in range(4): measure.enqueue_many([{'n': n}])\nwith engine.batch('named'): pass")
    assert [each["id"] for each in shown(cli, "batches")] == [5, 4, 3, 2, 1]
    assert [each["name"] for each in shown(cli, "batches", "--ended")] == ["named"]
    assert [each["id"] for each in shown(cli, "batches", "--name", "measure", "--limit", "1", "--all")] == [
        4,
        3,
        2,
        1,
    ]
    assert list(shown(cli, "batches", "--unended")[0])[: len(KEYS)] == KEYS
    done = cli("batches", "--limit", "2", *STORE)
    assert done.stderr == "there are more: --cursor 4, or --all\n"
    header, first, second = done.stdout.splitlines()
    assert header.split() == ["id", "name", "progress", "jobs", "rate", "left", "started", "ended"]
    assert first.split()[:6] == ["5", "named", "100", "%", "no", "jobs"]
    assert second.split() == ["4", "measure", "0", "%", "1", "pending"]


def test_what_there_is_not_is_said(cli: Cli, folder: Path) -> None:
    program(folder, "measure.enqueue(1)")
    missing = cli("batch", "7", *STORE)
    assert (missing.returncode, missing.stdout, missing.stderr) == (1, "", "mpdispatch: batch 7 not found\n")
    assert cli("batch", "x", *STORE).returncode == 2
    assert cli("batches", "--limit", "0", *STORE).returncode == 2
    assert cli("batches", "--store", "no.db").returncode == 69
    assert shown(cli, "batches") == []


def test_enqueue_says_which_batch(cli: Cli, folder: Path) -> None:
    for app in ((), ("-A", "tasks:engine")):
        enqueued = json.loads(
            cli("enqueue", "measure", "n:=1", "--count", "3", "--json", *STORE, *app, "--create").stdout
        )
        assert shown(cli, "batch", str(enqueued["batch_id"]))["counts"]["pending"] == enqueued["count"] == 3
        lines = cli("enqueue", "measure", "--args", "-", "--json", *STORE, *app, stdin='{"n":1}\n{"n":2}\n')
        batch = shown(cli, "batch", str(json.loads(lines.stdout)["batch_id"]))
        assert (batch["name"], batch["total"]) == ("measure", 2)


def test_a_shell_completes_ids_and_names(cli: Cli, folder: Path) -> None:
    program(folder, "measure.enqueue_many([{'n': 1}])")
    for line, found in (("mpdispatch batch ", "1"), ("mpdispatch batches --name ", "measure")):
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split())), "MPDISPATCH_STORE": "jobs.db"}
        done = cli(env={**words, "_MPDISPATCH_COMPLETE": "bash_complete"})
        assert f"plain,{found}" in done.stdout, done


# ---------------------------------------------------------------- on a terminal


def test_a_bar_moves_until_the_batch_has_ended(cli: Cli, folder: Path) -> None:
    program(
        folder,
        "with engine.batch('bar'):\n"
        "    measure.enqueue_many({'n': n} for n in range(17))\n"
        "    until_file.enqueue('go')",
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MPDISPATCH_")}
    argv = [sys.executable, "-m", "mpdispatch", "supervise", "tasks:engine", "--drain"]
    with (
        Terminal(folder, "batch", "1", "--watch", *STORE, columns=100) as terminal,
        subprocess.Popen(
            argv, cwd=folder, env={**clean, "PYTHONPATH": ROOT}, stderr=subprocess.DEVNULL
        ) as supervisor,
    ):
        terminal.read_until(lambda text: "17/18" in text)
        assert "1 failed" in terminal.text
        (folder / "go").touch()
        text = terminal.rest()
        assert terminal.process.returncode == 1
        assert supervisor.wait(30) == 1
    assert "100 % (18 of 18)" in text
    assert "17 completed, 1 failed" in text


def test_a_list_on_a_terminal_has_bars(cli: Cli, folder: Path) -> None:
    thirty(folder)
    cli("supervise", "tasks:engine", "--drain")
    wide = "\n".join(on_terminal(folder, "batches", *STORE, columns=160))
    assert f"{'█' * 20} 100 %" in wide
    narrow = "\n".join(on_terminal(folder, "batches", *STORE, columns=100))
    assert "█" * 5 in narrow
    assert "█" * 6 not in narrow


# ---------------------------------------------------------------- texts


def info(counts: dict[JobState, int], **fields: Any) -> BatchInfo:
    begun = moment_of(1_700_000_000_000_000)
    plain: dict[str, Any] = {
        "id": 1,
        "name": "x",
        "created_at": begun,
        "started_at": begun,
        "ended_at": None,
        "is_open": False,
        "cancelled_at": None,
        "total": sum(counts.values()),
        "counts": {state: counts.get(state, 0) for state in JobState},
        "callbacks": {},
        "max_fails": None,
        "max_fail_share": None,
        "read_at": begun + timedelta(seconds=10),
    }
    return BatchInfo(**{**plain, **fields})


@given(st.dictionaries(st.sampled_from(JobState), st.integers(0, 10**6)))
def test_a_bar_is_full_only_once_all_have_ended(counts: dict[JobState, int]) -> None:
    batch = info(counts)
    drawn = bar(batch.progress, 20)
    assert len(drawn) == 20
    is_done = 0 < batch.total == batch.done
    assert (drawn == "█" * 20) == (texts.share_text(batch) == "100 %") == is_done


@pytest.mark.parametrize(
    ("completed", "text"), [(0, ""), (25, "2.5/s"), (2_000, "200/s"), (123_450, "12,345/s"), (5, "30.0/min")]
)
def test_rates_are_in_the_unit_that_fits(completed: int, text: str) -> None:
    assert texts.rate_text(info({JobState.COMPLETED: completed, JobState.PENDING: 1})) == text


def test_a_slow_rate_is_per_hour() -> None:
    begun = moment_of(1_700_000_000_000_000)
    batch = info({JobState.COMPLETED: 1, JobState.PENDING: 3}, read_at=begun + timedelta(hours=2))
    assert (texts.rate_text(batch), texts.eta_text(batch)) == ("0.5/h", "6h00m")

"""`run` and `supervise --allow-commands` as people use them; `logs` of what was written; `dlq`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mpdispatch import Engine, UsageError, job
from mpdispatch.errors import RegistrationError
from mpdispatch.model import NewJob
from mpdispatch.store import SQLiteStore

from .conftest import ROOT

Cli = Callable[..., "subprocess.CompletedProcess[str]"]

TASKS = """
from mpdispatch import Engine, current_job

engine = Engine.open("jobs.db", concurrency=1)

@engine.job(max_retries=0)
def talk(lines: int) -> None:
    for n in range(lines):
        current_job().log(f"line {n}")

@engine.job(max_retries=0)
def fail(text: str = "no") -> None:
    current_job().log("about to fail")
    raise ValueError(text)

@engine.job(max_retries=0)
def die() -> None:
    import os, signal
    current_job().log("my last words")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def loaded(done: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def shown(cli: Cli, job_id: int, *options: str) -> Any:
    return loaded(cli("show", str(job_id), "--json", *options))


def until(claim: Callable[[], Any], seconds: float = 20) -> Any:
    end = time.monotonic() + seconds
    while not (found := claim()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)
    return found


@contextmanager
def supervisor(folder: Path, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MPDISPATCH_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "mpdispatch", "supervise", *args],
        cwd=folder,
        env={**clean, "PYTHONPATH": ROOT},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


# ---------------------------------------------------------------- run


def test_a_command_runs_where_and_as_it_was_enqueued_without_an_app(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    script = 'echo "$CHOSEN:$UNCHOSEN:$GIVEN"; pwd; echo no >&2'
    env = {"CHOSEN": "yes", "UNCHOSEN": "no"}
    options = ["--env", "CHOSEN", "--env", "GIVEN=a b", "--cwd", "deep"]
    assert cli("run", "--create", *options, "--", "sh", "-c", script, env=env).stdout == "1\n"
    waiting = shown(cli, 1)
    assert (waiting["name"], waiting["payload"]["argv"]) == ("mpdispatch.command", ["sh", "-c", script])
    done = cli("supervise", "--allow-commands", "--drain")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    ended = shown(cli, 1)
    (attempt,) = ended["attempts"]
    assert (ended["state"], ended["result"]) == ("completed", {"exit_status": 0})
    assert attempt["stdout"] == f"yes::a b\n{tmp_path / 'deep'}\n"
    assert attempt["stderr"] == "no\n"
    logs = cli("logs", "1")
    assert (logs.stdout, logs.stderr) == (attempt["stdout"], "no\n")
    assert cli("logs", "1", "--stream", "stderr").stdout == ""
    assert loaded(cli("logs", "1", "--json")) == {
        "id": 1,
        "start": 1,
        "stdout": attempt["stdout"],
        "stderr": "no\n",
        "log": None,
    }
    people = cli("show", "1").stdout
    assert "stdout of start 1:" in people
    assert "yes::a b" in people


def test_exit_status_signals_and_missing_programs_fail_it(cli: Cli) -> None:
    for argv in (["sh", "-c", "echo oops >&2; exit 3"], ["sh", "-c", "kill -9 $$"], ["no-such-program"]):
        cli("run", "--create", "--max-retries", "0", "--", *argv)
    assert cli("supervise", "--allow-commands", "--drain").returncode == 1
    first, second, third = (shown(cli, each) for each in (1, 2, 3))
    assert {each["state"] for each in (first, second, third)} == {"failed"}
    assert first["attempts"][0]["exit_status"] == 3
    assert first["last_error"]["message"] == "sh: exit status 3: oops"
    assert (second["attempts"][0]["signal"], second["attempts"][0]["exit_status"]) == ("SIGKILL", None)
    assert third["attempts"][0]["exit_status"] == 127
    assert "Traceback" not in json.dumps(third)


def test_a_timeout_and_a_cancel_end_the_program_and_keep_what_it_wrote(cli: Cli, tmp_path: Path) -> None:
    script = "echo $$; echo $$ >> pids; sleep 60 & echo $! >> pids; wait"
    cli("run", "--create", "--max-retries", "0", "--timeout", "500ms", "--", "sh", "-c", script)
    cli("run", "--max-retries", "0", "--", "sh", "-c", script)
    with supervisor(tmp_path, "--allow-commands", "-c", "2"):
        until(lambda: (tmp_path / "pids").exists() and len((tmp_path / "pids").read_text().split()) == 4)
        assert cli("cancel", "2").returncode == 0
        states = until(
            lambda: [s for each in (1, 2) if (s := shown(cli, each)["state"]) in ("failed", "cancelled")][1:]
        )
    assert states == ["cancelled"]
    for job_id, cause in ((1, "timeout"), (2, "cancelled")):
        (attempt,) = shown(cli, job_id)["attempts"]
        assert (attempt["cause"], attempt["stdout"].strip().isdigit()) == (cause, True)
    for pid in (tmp_path / "pids").read_text().split():
        assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()


def test_without_leave_a_command_is_parked_and_the_reason_says_what_to_do(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    cli("run", "--store", "jobs.db", "--", "true")
    ending = loaded(cli("supervise", "tasks:engine", "--drain", "--json"))
    ((reason, count),) = ending["parked"].items()
    assert count == 1
    assert "--allow-commands" in reason
    assert shown(cli, 1, "--store", "jobs.db")["blocked_reason"] == reason
    assert "supervise --allow-commands" in cli("explain", "1", "--store", "jobs.db").stdout
    assert cli("supervise", "tasks:engine", "--allow-commands", "--drain").returncode == 0
    assert shown(cli, 1, "--store", "jobs.db")["state"] == "completed"


def test_a_program_is_run_again_only_if_that_is_asked_for(cli: Cli, tmp_path: Path) -> None:
    store, script = ("--store", "jobs.db"), ("sh", "-c", "echo x >> ran; exit 1")
    drain = ("supervise", "--allow-commands", "--drain", *store)
    assert loaded(cli("run", "--json", *store, "--", *script))["max_retries"] == 0
    assert cli(*drain).returncode == 1
    assert ((tmp_path / "ran").read_text(), shown(cli, 1, *store)["state"]) == ("x\n", "failed")
    assert loaded(cli("run", "--max-retries", "1", "--json", *store, "--", *script))["max_retries"] == 1
    assert cli(*drain).returncode == 1
    assert (tmp_path / "ran").read_text() == "x\n" * 3


def test_run_takes_the_options_of_enqueue(cli: Cli) -> None:
    options = ["--queue", "q", "--priority", "4", "--delay", "1h", "--max-retries", "1", "--timeout", "2m"]
    made = loaded(
        cli("run", "--create", "--json", *options, "--idempotency-key", "k", "--", "ls", "-l", "--json")
    )
    assert (made["queue"], made["priority"], made["max_retries"], made["timeout"]) == ("q", 4, 1, 120.0)
    assert (made["state"], made["payload"]["argv"]) == ("scheduled", ["ls", "-l", "--json"])
    assert cli("run", "--idempotency-key", "k", "ls", "-la").stdout == "1\n"


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--"],
        ["--env", "NOT_SET_ANYWHERE", "--", "ls"],
        ["--timeout", "0", "--", "ls"],
        ["--delay", "x", "ls"],
    ],
)
def test_bad_values_exit_2_and_store_nothing(cli: Cli, tmp_path: Path, args: list[str]) -> None:
    assert cli("run", "--create", *args).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_run_wait_exits_as_the_command_did(cli: Cli, tmp_path: Path) -> None:
    with supervisor(tmp_path, "--allow-commands"):
        until(lambda: (tmp_path / "mpdispatch.db").exists())
        fine = cli("run", "--wait", "--", "true")
        assert (fine.returncode, fine.stdout) == (0, '1\n1 completed {"exit_status": 0}\n')
        bad = cli("run", "--wait", "--max-retries", "0", "--json", "--", "false")
        assert (bad.returncode, json.loads(bad.stdout)["state"]) == (1, "failed")


def test_nobody_else_can_enqueue_or_take_the_name(cli: Cli, tmp_path: Path) -> None:
    done = cli("enqueue", "--create", "mpdispatch.command", 'argv:=["ls"]')
    assert done.returncode == 2
    assert "mpdispatch run" in done.stderr
    engine = Engine.open(str(tmp_path / "jobs.db"))
    for call in (engine.enqueue, engine.options(delay=1).enqueue):
        with pytest.raises(UsageError, match="mpdispatch run"):
            call("mpdispatch.command", argv=["ls"], cwd="/", env={})
    with pytest.raises(UsageError, match="mpdispatch run"):
        engine.enqueue_many("mpdispatch.command", [{}])
    with pytest.raises(RegistrationError, match="reserved"):
        job(name="mpdispatch.command")(lambda: None)
    assert not (tmp_path / "jobs.db").exists()


def test_supervise_without_app_or_leave_says_both_ways(cli: Cli) -> None:
    done = cli("supervise")
    assert done.returncode == 2
    assert "tasks:engine" in done.stderr
    assert "--allow-commands" in done.stderr


# ---------------------------------------------------------------- logs


def test_what_a_handler_logs_is_kept_also_if_its_worker_is_killed(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    for args in (["talk", "lines:=3"], ["die"], ["talk", "lines:=20000"]):
        cli("enqueue", *args, "-A", "tasks:engine")
    assert cli("supervise", "tasks:engine", "--drain").returncode == 1
    where = ["--store", "jobs.db"]
    assert cli("logs", "1", *where).stdout == "line 0\nline 1\nline 2\n"
    assert shown(cli, 1, *where)["attempts"][0]["log"] == "line 0\nline 1\nline 2\n"
    assert shown(cli, 2, *where)["attempts"][0]["cause"] == "worker_died"
    assert cli("logs", "2", *where).stdout == "my last words\n"
    much = cli("logs", "3", *where).stdout
    assert len(much) <= 64 * 1024
    assert much.endswith("line 19998\nline 19999\n")
    assert cli("logs", "9", *where).stderr == "mpdispatch: job 9 not found\n"


def test_logs_say_what_is_kept_if_nothing_is_and_which_starts_there_are(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    where = ["--store", "jobs.db"]
    cli("enqueue", "talk", "lines:=0", "-A", "tasks:engine")
    for args in ([], ["--start", "1"]):
        early = cli("logs", "1", *args, *where)
        assert (early.returncode, early.stdout) == (2 if args else 0, "")
    assert "it has not been started yet" in early.stderr
    cli("supervise", "tasks:engine", "--drain")
    for args in ([], ["-f"], ["--start", "1"]):
        done = cli("logs", "1", *args, *where)
        assert (done.returncode, done.stdout) == (0, "")
        (line,) = done.stderr.splitlines()
        assert "nothing that is kept: that is what current_job().log(...) and command jobs write" in line
    assert loaded(cli("logs", "1", "--json", *where))["log"] is None
    for args in ([], ["--json"], ["-f"]):
        done = cli("logs", "1", "--start", "7", *args, *where)
        assert (done.returncode, done.stdout) == (2, "")
        assert "job 1 has no start 7; there are 1" in done.stderr


def test_logs_follow_a_job_to_its_end(cli: Cli, tmp_path: Path) -> None:
    cli("run", "--create", "--", "sh", "-c", "echo one; while [ ! -e go ]; do sleep 0.02; done; echo two")
    follower = subprocess.Popen(
        [sys.executable, "-m", "mpdispatch", "logs", "1", "-f"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ROOT},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with supervisor(tmp_path, "--allow-commands"):
            assert follower.stdout is not None
            assert follower.stdout.readline() == "one\n"
            (tmp_path / "go").touch()
            rest, _ = follower.communicate(timeout=30)
    finally:
        follower.kill()
        follower.wait()
    assert rest == "two\n"
    assert follower.returncode == 0


# ---------------------------------------------------------------- dlq


@pytest.fixture
def failures(cli: Cli, tmp_path: Path) -> list[str]:
    """Two failed jobs, 1 and 2."""
    (tmp_path / "tasks.py").write_text(TASKS)
    for text in ("first", "second"):
        cli("enqueue", "fail", f"text={text}", "-A", "tasks:engine")
    assert cli("supervise", "tasks:engine", "--drain").returncode == 1
    return ["--store", "jobs.db"]


def test_dlq_lists_shows_and_counts_what_failed(cli: Cli, failures: list[str]) -> None:
    letters = loaded(cli("dlq", "list", "--json", *failures))
    assert [letter["id"] for letter in letters] == [2, 1]
    assert letters[1]["payload"] == {"text": "first"}
    assert letters[1]["last_error"]["message"] == "first"
    assert loaded(cli("stats", "--json", *failures))["dlq_count"] == 2
    one = cli("dlq", "list", "--json", "--limit", "1", *failures)
    cursor = one.stderr.split("--cursor ")[1].split(",")[0]
    assert [each["id"] for each in loaded(cli("dlq", "list", "--json", "--cursor", cursor, *failures))] == [1]
    assert len(loaded(cli("dlq", "list", "--json", "--all", "--limit", "1", *failures))) == 2
    assert loaded(cli("dlq", "list", "--json", "--queue", "x", *failures)) == []
    table = cli("dlq", "list", *failures).stdout.splitlines()
    assert table[0].split()[:3] == ["id", "name", "queue"]
    assert "ValueError: second" in table[1]
    detail = loaded(cli("dlq", "show", "1", "--json", *failures))
    assert detail["attempts"][0]["log"] == "about to fail\n"
    assert "ValueError: first" in cli("dlq", "show", "1", *failures).stdout
    assert cli("dlq", "show", "7", *failures).returncode == 1


def test_dlq_replay_twice_makes_one_job(cli: Cli, failures: list[str]) -> None:
    assert cli("dlq", "replay", "1", *failures).stdout == "job 1 runs again as job 3\n"
    again = cli("dlq", "replay", "1", *failures)
    assert (again.returncode, again.stdout) == (0, "job 1 was replayed before, as job 3 (pending)\n")
    assert cli("retry", "1", *failures).stdout == "job 1 was enqueued again before, as job 3 (pending)\n"
    (job_json,) = loaded(cli("dlq", "replay", "1", "--json", *failures))
    assert (job_json["id"], job_json["created"], job_json["retried_from"]) == (3, False, 1)
    assert [each["id"] for each in loaded(cli("dlq", "list", "--json", *failures))] == [2]
    replayed = loaded(cli("dlq", "list", "--replayed", "--json", *failures))
    assert [(each["id"], each["replayed_as"]) for each in replayed] == [(2, None), (1, 3)]
    assert cli("dlq", "replay", "9", "2", *failures).returncode == 1
    assert loaded(cli("stats", "--json", *failures))["jobs"]["pending"] == 2


@pytest.mark.parametrize("command", [("prune",), ("dlq", "purge")])
def test_what_deletes_by_age_asks_for_its_unit(cli: Cli, failures: list[str], command: tuple[str, ...]) -> None:
    before = loaded(cli("stats", "--json", *failures))["jobs"]
    done = cli(*command, "--older-than", "30", *failures)
    assert (done.returncode, done.stdout) == (2, "")
    assert "30 of what? write 30d, 30h, m or s" in done.stderr
    assert loaded(cli("stats", "--json", *failures))["jobs"] == before


def test_prune_by_state_number_and_age(cli: Cli, tmp_path: Path, failures: list[str]) -> None:
    """Two jobs have failed and their dead letters are open."""
    store = SQLiteStore(tmp_path / "jobs.db")
    for _ in range(3):
        store.cancel(store.enqueue(NewJob(name="a", payload=b"{}")).id)
    waits = "2 failed stay until their dead letters are replayed or purged (mpdispatch dlq)"
    asked = cli("prune", *failures)
    assert (asked.returncode, asked.stderr.splitlines()[0]) == (
        2,
        "mpdispatch: say which jobs: --older-than, --state or --keep",
    )
    assert cli("prune", "--state", "running", *failures).returncode == 2
    assert cli("prune", "--keep", "-1", *failures).returncode == 2
    done = cli("prune", "--keep", "1", "--dry-run", *failures)
    assert done.stdout == f"would prune 2 jobs (2 cancelled); {waits}\n"
    assert loaded(cli("prune", "--older-than", "0s", "--dry-run", "--json", *failures)) == {
        "would_prune": 3,
        "by_state": {"completed": 0, "failed": 0, "cancelled": 3},
        "open_dead_letters": 2,
    }
    assert loaded(cli("prune", "--state", "cancelled", "--older-than", "1h", "--json", *failures)) == {
        "pruned": 0
    }
    assert cli("prune", "--state", "cancelled", "--keep", "2", *failures).stdout == "pruned 1 job\n"
    assert cli("prune", "--state", "failed", *failures).stdout == f"pruned 0 jobs; {waits}\n"
    cli("dlq", "purge", *failures)
    assert loaded(cli("prune", "--older-than", "0s", "--json", *failures)) == {"pruned": 4}
    assert cli("prune", "--dry-run", "--compact", *failures).returncode == 2
    found = loaded(cli("prune", "--compact", "--json", *failures))
    assert (found["pruned"], found["bytes"]) == (0, (tmp_path / "jobs.db").stat().st_size)
    assert found["bytes_before"] >= found["bytes"]


def test_dlq_purge_by_queue_and_age(cli: Cli, tmp_path: Path, failures: list[str]) -> None:
    assert loaded(cli("dlq", "purge", "--older-than", "1h", "--json", *failures)) == {"purged": 0}
    assert loaded(cli("dlq", "purge", "--queue", "bulk", "--json", *failures)) == {"purged": 0}
    assert cli("dlq", "purge", *failures).stdout == "purged: 2\n"
    assert SQLiteStore(tmp_path / "jobs.db").dead_letter_count() == 0
    assert cli("dlq", "replay", "1", *failures).returncode == 1


@pytest.mark.parametrize("args", [["list"], ["show", "1"], ["replay", "1"], ["purge"]])
def test_dlq_never_creates_a_store(cli: Cli, tmp_path: Path, args: list[str]) -> None:
    done = cli("dlq", *args)
    assert done.returncode == 69
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["list", "show", "replay", "purge"])
def test_each_dlq_command_shows_an_example(cli: Cli, name: str) -> None:
    assert f"mpdispatch dlq {name}" in cli("dlq", name, "--help").stdout.partition("Examples:")[2]

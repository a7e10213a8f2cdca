"""The commands against a real store and, where jobs must run, a real supervisor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mpdispatch.store import SQLiteStore

Cli = Callable[..., "subprocess.CompletedProcess[str]"]

STATES = ["scheduled", "pending", "running", "retrying", "completed", "failed", "cancelled"]

TASKS = """
from mpdispatch import Dispatcher, Engine, SQLiteStore

dispatcher = Dispatcher(store=SQLiteStore("tasks.db"), concurrency=1)
engine = Engine.build(dispatcher)

@engine.job(queue="bulk", priority=3)
def render(path: str, dpi: int = 300) -> dict:
    return {"path": path, "dpi": dpi}

@engine.job(max_retries=0)
def fail(text: str = "no") -> None:
    raise ValueError(text)
"""

LOUD = """
import os
from mpdispatch import Engine

print("printed while it was imported", flush=True)
engine = Engine.open("jobs.db", concurrency=1)

@engine.job
def speak() -> None:
    print("printed by a handler", flush=True)
    os.system("echo echoed by a child")
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(TASKS)
    return tmp_path / "tasks.db"


def loaded(done: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


# ---------------------------------------------------------------- a store nobody names

ENTER = pytest.mark.parametrize("enter", [["enqueue", "x"], ["run", "--", "true"]], ids=["enqueue", "run"])


@ENTER
def test_no_second_store_is_made_unasked(cli: Cli, tmp_path: Path, enter: list[str]) -> None:
    done = cli(*enter)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert list(tmp_path.iterdir()) == []
    SQLiteStore(tmp_path / "jobs.db").migrate()
    there = sorted(tmp_path.iterdir())
    done = cli(*enter)
    assert (done.returncode, "did you mean --store jobs.db?" in done.stderr) == (2, True), done.stderr
    assert sorted(tmp_path.iterdir()) == there


@ENTER
def test_a_store_is_made_if_it_is_named_or_asked_for(cli: Cli, tmp_path: Path, enter: list[str]) -> None:
    (tmp_path / "mine.yaml").write_text("dispatch: {store: file.db}\n")
    command, *rest = enter
    assert cli(command, "--store", "named.db", *rest).stdout == "1\n"
    assert cli(command, *rest, env={"MPDISPATCH_STORE": "variable.db"}).stdout == "1\n"
    assert cli(command, "--config", "mine.yaml", *rest).stdout == "1\n"
    assert not (tmp_path / "mpdispatch.db").exists()
    assert cli(command, "--create", *rest).stdout == "1\n"
    assert cli(command, *rest).stdout == "2\n"  # now it is there
    assert len(loaded(cli("jobs", "--json"))) == 2


def test_the_store_of_an_app_is_made_unasked(cli: Cli, app: Path) -> None:
    assert cli("enqueue", "render", "path=a", env={"MPDISPATCH_APP": "tasks:engine"}).stdout == "1\n"
    assert app.exists()
    assert not app.with_name("mpdispatch.db").exists()


# ---------------------------------------------------------------- without an app


@pytest.mark.parametrize("location", [":memory:", "sqlite://", "sqlite:///:memory:"])
def test_a_store_in_the_memory_of_a_command_is_refused(cli: Cli, location: str) -> None:
    done = cli("enqueue", "x", "--store", location)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--store: :memory: is in the memory of one process" in done.stderr
    said = cli("enqueue", "x", env={"MPDISPATCH_STORE": location})
    assert (said.returncode, said.stdout) == (78, "")
    assert "MPDISPATCH_STORE" in said.stderr


def test_a_missing_store_is_told_with_its_remedy(cli: Cli, tmp_path: Path) -> None:
    there_is_none = f"there is no folder {tmp_path / 'no'}"
    for args, code in ((["jobs"], 69), (["enqueue", "x"], 73)):
        done = cli(*args, "--store", "no/jobs.db")
        assert (done.returncode, there_is_none in done.stderr) == (code, True), done.stderr
    (tmp_path / "other.db").touch()  # somebody else's
    assert "migrate" in cli("jobs").stderr
    cli("enqueue", "x", "--store", "jobs.db")
    for args in (["jobs"], ["show", "1"], ["doctor"]):
        done = cli(*args)
        assert (done.returncode, "did you mean --store jobs.db?" in done.stderr) == (69, True), done.stderr
    assert "did you mean" not in cli("jobs", env={"MPDISPATCH_STORE": "else.db"}).stderr
    cli("enqueue", "x", "--store", "more.db")
    assert "did you mean" not in cli("jobs").stderr


def test_a_store_in_the_memory_of_an_app_is_refused(cli: Cli, tmp_path: Path) -> None:
    text = (
        "from mpdispatch import Engine\nengine = Engine.open(':memory:')\n@engine.job\ndef f() -> None: ...\n"
    )
    (tmp_path / "brief.py").write_text(text)
    for args in (["enqueue", "f"], ["jobs"]):
        done = cli(*args, "-A", "brief:engine")
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert ":memory: is in the memory of one process" in done.stderr


def test_enqueue_prints_the_id_and_keeps_the_arguments_as_given(cli: Cli) -> None:
    done = cli(
        "enqueue",
        "--create",
        "render",
        "path=a.pdf",
        "dpi:=300",
        "--args",
        '{"gray": true, "dpi": 1}',
        "--queue",
        "bulk",
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    job = loaded(cli("show", "1", "--json"))
    assert job["payload"] == {"path": "a.pdf", "dpi": 300, "gray": True}
    assert (job["name"], job["queue"], job["state"], job["attempts"]) == ("render", "bulk", "pending", [])


def test_enqueue_takes_every_option(cli: Cli) -> None:
    options = ["--priority", "-4", "--max-retries", "0", "--timeout", "1m30s", "--idempotency-key", "k"]
    job = loaded(cli("enqueue", "--create", "x", *options, "--run-at", "2099-01-02T03:04:05+01:00", "--json"))
    assert (job["priority"], job["max_retries"], job["timeout"], job["idempotency_key"]) == (-4, 0, 90.0, "k")
    assert (job["state"], job["run_at"]) == ("scheduled", "2099-01-02T02:04:05.000000Z")


@pytest.mark.parametrize("command", [["enqueue", "x"], ["run"]])
def test_a_new_job_may_expire(cli: Cli, command: list[str]) -> None:
    end = ["--", "true"] if command == ["run"] else []
    job = loaded(cli(*command, "--create", "--json", "--expires", "2099-01-02T03:04:05+01:00", *end))
    assert job["expires_at"] == "2099-01-02T02:04:05.000000Z"
    job = loaded(cli(*command, "--json", "--expires", "5m", *end))
    moments = [datetime.fromisoformat(job[key]) for key in ("expires_at", "created_at")]
    assert moments[0] - moments[1] == timedelta(minutes=5)
    for value, text in (("soon", "a duration such as"), ("2020-01-01T00:00:00Z", "is over"), ("0", "zero")):
        done = cli(*command, "--expires", value, *end)
        assert (done.returncode, done.stdout) == (2, "")
        assert text in done.stderr
        assert "expires" in done.stderr


def test_enqueue_with_a_used_key_gives_the_first_job(cli: Cli) -> None:
    for _ in range(2):
        assert cli("enqueue", "--create", "x", "--idempotency-key", "k").stdout == "1\n"


def test_enqueue_makes_a_job_of_each_line_of_stdin(cli: Cli) -> None:
    done = cli("enqueue", "--create", "add", "--args", "-", "b:=5", stdin='{"a": 1}\n\n{"a": 2, "b": 7}\n')
    assert (done.returncode, done.stdout) == (0, "1\n2\n")
    shown = [json.loads(cli("show", each, "--json").stdout) for each in ("1", "2")]
    assert [each["payload"] for each in shown] == [{"a": 1, "b": 5}, {"a": 2, "b": 5}]


def test_a_line_of_stdin_that_is_no_object_is_named_and_nothing_is_enqueued(cli: Cli) -> None:
    cli("enqueue", "--create", "other")
    for bad in ("[1]", '{"a": 1', '{"a": NaN}'):
        done = cli("enqueue", "add", "--args", "-", stdin=f'{{"a": 1}}\n{bad}\n')
        assert done.returncode == 2
        assert "line 2" in done.stderr
    assert cli("enqueue", "other").stdout == "2\n"


def test_every_faulty_line_of_stdin_is_named_by_its_number_and_nothing_is_enqueued(cli: Cli, app: Path) -> None:
    lines = [
        '{"path": "a.pdf"}',
        "",
        '{"path": 7}',
        '{"path": "b"',
        '{"path": "b", "dpi": "x", "inks": 4}',
        "[]",
    ]
    done = cli("enqueue", "render", "--args", "-", "-A", "tasks:engine", stdin="\n".join(lines))
    assert (done.returncode, done.stdout) == (2, "")
    told = done.stderr.splitlines()
    starts = [line.split(": ")[2] for line in told]
    assert starts == ["line 3", "line 4", "line 5", "line 6", "no job is enqueued"]
    assert told[1].endswith("no valid JSON: Expecting ',' delimiter at column 13")
    assert "dpi: " in told[2]
    assert "inks" in told[2]
    assert cli("enqueue", "render", "path=a", "-A", "tasks:engine").stdout == "1\n"


def test_of_many_faulty_lines_twenty_are_named_without_an_app_too(cli: Cli) -> None:
    lines = ["{", '{"a": "' + "x" * 2000 + '"}', *["{"] * 21, "{}"]
    done = cli(
        "enqueue",
        "--create",
        "x",
        "--args",
        "-",
        stdin="\n".join(lines),
        env={"MPDISPATCH_MAX_PAYLOAD_BYTES": "99"},
    )
    assert (done.returncode, done.stdout) == (2, "")
    told = done.stderr.splitlines()
    assert [line.split(": ")[2] for line in told[:20]] == [f"line {n}" for n in range(1, 21)]
    assert "at most 99" in told[1]
    assert told[20].endswith("and 3 more lines")
    assert cli("enqueue", "--create", "x").stdout == "1\n"


def test_no_line_of_stdin_is_no_job(cli: Cli) -> None:
    done = cli("enqueue", "--create", "add", "--args", "-", "--json")
    assert (done.returncode, json.loads(done.stdout)["count"]) == (0, 0)


def test_enqueue_count_prints_every_id(cli: Cli) -> None:
    assert cli("enqueue", "--create", "x", "--count", "3").stdout == "1\n2\n3\n"
    assert loaded(cli("enqueue", "x", "--count", "2", "--json")) == {"batch_id": 2, "count": 2, "ids": [4, 5]}


@pytest.mark.parametrize(
    "args",
    [
        ["x", "novalue"],
        ["x", "a:=oops"],
        ["x", "--args", "[]"],
        ["x", "--delay", "soon"],
        ["x", "--delay", "-1"],
        ["x", "--run-at", "tomorrow"],
        ["x", "--delay", "1s", "--run-at", "2099-01-01T00:00:00Z"],
        ["x", "--max-retries", "-1"],
        ["x", "--timeout", "0"],
        ["x", "--count", "0"],
        ["x", "--count", "2", "--idempotency-key", "k"],
        ["x", "--queue", ""],
        ["", "a=1"],
        ["x", "a:=" + "[" * 300 + "]" * 300],
    ],
)
def test_bad_values_on_the_command_line_exit_2_and_store_nothing(
    cli: Cli, tmp_path: Path, args: list[str]
) -> None:
    done = cli("enqueue", "--create", *args)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert all(line.startswith("mpdispatch: ") for line in done.stderr.splitlines())
    assert not (tmp_path / "mpdispatch.db").exists()


@pytest.mark.parametrize(
    "args",
    [
        ["jobs"],
        ["show", "1"],
        ["wait", "1"],
        ["stats"],
        ["stats", "--watch"],
        ["queues"],
        ["workers"],
        ["doctor"],
        ["explain", "1"],
        ["logs", "1"],
        ["cancel", "1"],
        ["retry", "1"],
        ["pause", "q"],
        ["resume", "q"],
    ],
)
def test_reading_commands_never_create_a_store(cli: Cli, tmp_path: Path, args: list[str]) -> None:
    done = cli(*args)
    assert done.returncode == 69
    assert "mpdispatch migrate" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_jobs_gives_an_array_newest_first_and_pages(cli: Cli) -> None:
    cli("enqueue", "--create", "a", "--count", "3")
    cli("enqueue", "b", "--queue", "bulk")
    assert [job["id"] for job in loaded(cli("jobs", "--json"))] == [4, 3, 2, 1]
    assert [job["id"] for job in loaded(cli("jobs", "--json", "--name", "a"))] == [3, 2, 1]
    assert [job["id"] for job in loaded(cli("jobs", "--json", "--queue", "bulk"))] == [4]
    assert loaded(cli("jobs", "--json", "--state", "failed")) == []
    first = cli("jobs", "--json", "--limit", "3")
    assert len(loaded(first)) == 3
    cursor = first.stderr.split("--cursor ")[1].split(",")[0]
    assert [job["id"] for job in loaded(cli("jobs", "--json", "--cursor", cursor))] == [1]
    assert len(loaded(cli("jobs", "--json", "--all", "--limit", "1"))) == 4


def test_jobs_refuses_a_bad_cursor_state_or_limit(cli: Cli) -> None:
    cli("migrate")
    for args in (["--cursor", "x"], ["--state", "lost"], ["--limit", "0"], ["--limit", "1001"]):
        assert cli("jobs", *args).returncode == 2, args


def test_table_escapes_what_a_terminal_would_obey(cli: Cli) -> None:
    cli("enqueue", "--create", "evil\u202ename")
    assert "evil\\u202ename" in cli("jobs").stdout


def test_show_and_cancel_of_a_job_that_is_not_there_name_it(cli: Cli) -> None:
    cli("migrate")
    for command in ("show", "cancel", "retry", "wait"):
        done = cli(command, "41")
        assert (done.returncode, done.stderr) == (1, "mpdispatch: job 41 not found\n")


def test_cancel_and_retry_go_on_after_one_that_cannot_be_changed(cli: Cli) -> None:
    cli("enqueue", "--create", "x", "--count", "2")
    done = cli("cancel", "9", "1", "2")
    assert done.returncode == 1
    assert done.stdout == "job 1 is cancelled\njob 2 is cancelled\n"
    assert cli("retry", "1").stdout == "job 1 runs again as job 3\n"
    assert loaded(cli("show", "3", "--json"))["retried_from"] == 1


def test_retry_of_a_scheduled_job_runs_it_now(cli: Cli) -> None:
    cli("enqueue", "--create", "x", "--delay", "1h")
    assert [job["state"] for job in loaded(cli("retry", "1", "--json"))] == ["pending"]


def test_wait_gives_up_after_its_time(cli: Cli) -> None:
    cli("enqueue", "--create", "x")
    done = cli("wait", "1", "--for", "50ms")
    assert done.returncode == 1
    assert "still pending after 0.05 s" in done.stderr
    assert "supervise" in done.stderr  # nobody would ever run it


def test_wait_for_a_cancelled_job_exits_1(cli: Cli) -> None:
    cli("enqueue", "--create", "x")
    cli("cancel", "1")
    done = cli("wait", "1")
    assert (done.returncode, done.stdout) == (1, "1 cancelled\n")


def test_stats_counts_every_state_and_pause_shows(cli: Cli) -> None:
    cli("enqueue", "--create", "x", "--queue", "bulk")
    cli("pause", "bulk")
    stats = loaded(cli("stats", "--json"))
    assert stats["jobs"] == {**dict.fromkeys(STATES, 0), "pending": 1}
    assert stats["dlq_count"] == 0
    assert stats["queues"]["bulk"]["paused"] is True
    assert "bulk (paused)" in cli("stats").stdout
    assert loaded(cli("resume", "bulk", "--json")) == {"queue": "bulk", "paused": False}
    assert loaded(cli("stats", "--json"))["queues"]["bulk"]["paused"] is False


def test_migrate_creates_once_and_says_so(cli: Cli) -> None:
    first, again = loaded(cli("migrate", "--json")), loaded(cli("migrate", "--json"))
    assert first["from"] == 0
    assert again["from"] == again["to"] == first["to"]


# ---------------------------------------------------------------- where the store is found


def test_store_is_found_by_option_then_variable_then_file_then_default(cli: Cli, tmp_path: Path) -> None:
    def where(*args: str, **env: str) -> str:
        return Path(loaded(cli("migrate", "--json", *args, env=env))["store"]).name

    assert where() == "mpdispatch.db"
    (tmp_path / "app.yaml").write_text("extensions: {dispatch: {store: file.db}}\n")
    assert where() == "file.db"
    assert where(MPDISPATCH_STORE="variable.db") == "variable.db"
    assert where("--store", "option.db", MPDISPATCH_STORE="variable.db") == "option.db"
    (tmp_path / "other.yaml").write_text("dispatch: {store: other.db}\n")
    assert where("--config", "other.yaml") == "other.db"
    assert where(MPDISPATCH_CONFIG="other.yaml") == "other.db"


def test_a_bad_store_is_blamed_on_who_gave_it(cli: Cli, tmp_path: Path) -> None:
    by_option = cli("--store", "ftp://x", "migrate")
    assert by_option.returncode == 2
    assert "--store" in by_option.stderr
    by_variable = cli("migrate", env={"MPDISPATCH_STORE": "ftp://x"})
    assert by_variable.returncode == 78
    assert "MPDISPATCH_STORE" in by_variable.stderr
    (tmp_path / "app.yaml").write_text("dispatch: {store: 'ftp://x'}\n")
    by_file = cli("migrate")
    assert by_file.returncode == 78
    assert "app.yaml: dispatch.store" in by_file.stderr


def test_every_fault_of_the_file_has_a_line_of_its_own(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mpdispatch.yaml").write_text("dispatch: {concurency: 1, queues: 3}\n")
    done = cli("stats")
    assert done.returncode == 78
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("mpdispatch: mpdispatch.yaml: dispatch.") for line in lines)


def test_damaged_and_foreign_files_are_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mpdispatch.db").write_bytes(b"this is no database" * 500)
    assert cli("jobs").returncode == 65
    done = cli("enqueue", "x", "--store", str(tmp_path / "none" / "x.db"))
    assert done.returncode == 73
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------- with an app


def test_enqueue_with_an_app_checks_name_and_arguments(cli: Cli, app: Path) -> None:
    unknown = cli("enqueue", "rendr", "-A", "tasks:engine")
    assert unknown.returncode == 2
    assert "registered: fail, render" in unknown.stderr
    wrong = cli("enqueue", "render", "dpi=high", "paht=a", "-A", "tasks:engine")
    assert wrong.returncode == 2
    assert len(wrong.stderr.splitlines()) == 3  # dpi is no int, paht is unknown, path is missing
    assert not app.exists()


def test_enqueue_with_an_app_takes_the_handlers_defaults_and_its_store(cli: Cli, app: Path) -> None:
    job = loaded(cli("enqueue", "render", "path=a", "--json", "-A", "tasks:engine"))
    assert (job["queue"], job["priority"]) == ("bulk", 3)
    assert SQLiteStore(app).get(job["id"]).name == "render"
    assert loaded(cli("jobs", "--json", "-A", "tasks:engine"))[0]["id"] == job["id"]


def test_reading_without_dash_a_does_not_import_the_app(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("raise RuntimeError('imported')")
    cli("migrate")
    assert cli("jobs", env={"MPDISPATCH_APP": "tasks:engine"}).returncode == 0
    assert cli("jobs", "-A", "tasks:engine").returncode == 70


def test_an_app_that_does_not_import_exits_70_with_its_traceback(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("import nowhere_at_all")
    done = cli("enqueue", "x", "-A", "tasks:engine")
    assert done.returncode == 70
    assert "nowhere_at_all" in done.stderr.splitlines()[-1]
    assert 'tasks.py", line 1' in done.stderr


@pytest.mark.parametrize(("source", "code"), [("-A", 2), ("MPDISPATCH_APP", 78)])
def test_a_malformed_app_is_blamed_on_who_gave_it(cli: Cli, source: str, code: int) -> None:
    args, env = (["-A", "tasks"], {}) if source == "-A" else ([], {source: "tasks"})
    done = cli("enqueue", "x", *args, env=env)
    assert done.returncode == code
    assert source in done.stderr


# ---------------------------------------------------------------- supervise


def test_supervise_drains_what_was_enqueued(cli: Cli, app: Path) -> None:
    cli("enqueue", "render", "path=a.pdf", "--queue", "default", "-A", "tasks:engine")
    done = cli("supervise", "tasks:engine", "--drain")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    job = loaded(cli("show", "1", "--json", "--store", "tasks.db"))
    assert (job["state"], job["result"]) == ("completed", {"path": "a.pdf", "dpi": 300})
    assert [attempt["cause"] for attempt in job["attempts"]] == ["completed"]
    waited = cli("wait", "1", "--store", "tasks.db")
    assert (waited.returncode, waited.stdout) == (0, '1 completed {"path": "a.pdf", "dpi": 300}\n')


def test_supervise_drain_exits_1_if_a_job_failed_and_lists_what_is_parked(cli: Cli, app: Path) -> None:
    cli("enqueue", "fail", "text=\x1b[31mbad\n", "-A", "tasks:engine")
    cli("enqueue", "unheard_of", "--store", "tasks.db")
    cli("enqueue", "render", "path=a.pdf", "--queue", "default", "--delay", "1h", "-A", "tasks:engine")
    done = cli("supervise", "tasks:engine", "--drain", "--json")
    ending = loaded(done, code=1)
    assert ending["failed"] == 1
    assert sum(ending["parked"].values()) == 1
    assert any("unheard_of" in reason for reason in ending["parked"])
    assert ending["scheduled"] == 1
    told = cli("supervise", "tasks:engine", "--drain").stdout.splitlines()
    assert any(line.startswith("parked: 1 (") and "unheard_of" in line for line in told), told
    assert "scheduled for later: 1" in told
    assert "Traceback" not in done.stderr
    assert "\x1b" not in cli("jobs", "--store", "tasks.db").stdout
    assert cli("wait", "1", "--store", "tasks.db").returncode == 1


def test_explicit_store_wins_over_the_apps_own(cli: Cli, app: Path) -> None:
    cli("enqueue", "render", "path=a", "--queue", "default", "-A", "tasks:engine", "--store", "other.db")
    assert cli("supervise", "tasks:engine", "--drain", "--store", "other.db").returncode == 0
    assert loaded(cli("show", "1", "--json", "--store", "other.db"))["state"] == "completed"
    assert not app.exists()


@pytest.mark.parametrize(
    ("args", "env", "code"),
    [
        ([], {}, 2),
        (["tasks"], {}, 2),
        (["tasks:engine", "-A", "other:engine"], {}, 2),
        (["tasks:engine", "-c", "0"], {}, 2),
        (["tasks:engine", "-q", "a,,b"], {}, 2),
        (["tasks:engine"], {"MPDISPATCH_CONCURRENCY": "many"}, 78),
        ([], {"MPDISPATCH_APP": "tasks"}, 78),
        (["nowhere:engine"], {}, 70),
        (["tasks:nothing"], {}, 70),
    ],
)
def test_supervise_refuses_bad_values(
    cli: Cli, app: Path, args: list[str], env: dict[str, str], code: int
) -> None:
    done = cli("supervise", "--drain", *args, env=env)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""


def test_supervise_takes_the_app_from_the_file(cli: Cli, app: Path, tmp_path: Path) -> None:
    (tmp_path / "mpdispatch.yaml").write_text("dispatch: {app: 'tasks:engine'}\n")
    cli("enqueue", "render", "path=a", "--queue", "default")
    assert cli("supervise", "--drain").returncode == 0
    assert SQLiteStore(app).get(1).state == "completed"


def test_the_supervising_process_does_not_import_the_app(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        TASKS + "\nimport os\nopen('pids', 'a').write(f'{os.getpid()} {os.getppid()}\\n')\n"
    )
    assert cli("supervise", "tasks:engine", "--drain").returncode == 0
    pids = [line.split() for line in (tmp_path / "pids").read_text().splitlines()]
    assert pids
    assert not {pid for pid, _ in pids} & {parent for _, parent in pids}


def test_sigterm_ends_a_supervisor_that_has_nothing_to_do_with_0(app: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mpdispatch", "supervise", "tasks:engine"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    try:
        assert process.stderr is not None
        first = process.stderr.readline()  # it logs when it is up
        assert "info" in first
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=30)
        assert process.returncode == 0, rest
    finally:
        process.kill()
        process.communicate()


def test_with_json_stdout_has_our_document_only(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    cli("enqueue", "speak", "-A", "loud:engine")
    done = cli("supervise", "loud:engine", "--drain", "--json")
    assert loaded(done) == {"failed": 0, "parked": {}, "scheduled": 0}
    assert "printed" in done.stderr
    assert "echoed" in done.stderr


def test_a_supervisor_says_whose_queues_it_does_not_poll(cli: Cli, app: Path) -> None:
    quiet = cli("supervise", "tasks:engine", "--drain", "-q", "default,bulk")
    assert "not polled" not in quiet.stderr
    cli("enqueue", "render", "path=a.pdf", "-A", "tasks:engine")
    done = cli("supervise", "tasks:engine", "--drain")
    (line,) = [line for line in done.stderr.splitlines() if "warning" in line]
    assert (
        "have queues that are not polled here: bulk (handler: render); poll them with queues=[...] or -q"
        in line
    )
    assert done.returncode == 0

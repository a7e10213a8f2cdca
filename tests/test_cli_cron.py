"""`mpdispatch cron` as a process: what it prints, what it refuses, and with which exit code."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli

TASKS = """
from mpdispatch import Engine

engine = Engine.open("tasks.db", concurrency=1)

@engine.job(queue="bulk", max_retries=7)
def report(days: int = 1) -> int:
    return days
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(TASKS)
    return tmp_path / "tasks.db"


def loaded(done: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def refused(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def entries(cli: Cli, store: str = "jobs.db") -> list[dict[str, Any]]:
    return loaded(cli("cron", "list", "--json", "--store", store))


# ---------------------------------------------------------------- add


def test_a_job_with_arguments_and_options_anywhere_before_a_program(cli: Cli, app: Path) -> None:
    done = cli(
        *("cron", "add", "nightly", "0 3 * * *", "report", "days:=7", "-A", "tasks:engine"),
        *("--tz", "Europe/Berlin", "--catch-up", "all", "--catch-up-limit", "9", "--overlap", "skip"),
        *("--jitter", "5m", "--late-after", "2d", "--starts-at", "2026-11-01", "--priority", "2", "--json"),
    )
    made = loaded(done)
    assert {
        key: made[key] for key in ("name", "schedule", "tz", "job_name", "queue", "payload", "enabled")
    } == {
        "name": "nightly",
        "schedule": "0 3 * * *",
        "tz": "Europe/Berlin",
        "job_name": "report",
        "queue": "bulk",
        "payload": {"days": 7},
        "enabled": True,
    }
    assert (made["catch_up"], made["catch_up_limit"], made["overlap"]) == ("all", 9, "skip")
    assert (made["jitter"], made["late_after"], made["priority"], made["max_retries"]) == (300, 172_800, 2, 7)
    assert made["starts_at"] == "2026-10-31T23:00:00.000000Z"
    assert entries(cli, str(app)) == [made]


def test_a_program_keeps_its_own_options(cli: Cli, tmp_path: Path) -> None:
    done = cli(
        *("cron", "add", "backup", "@daily", "--tz", "UTC", "--store", "jobs.db", "--env", "LEVEL=3"),
        *("--timeout", "1h", "--queue", "nightly", "--", "echo", "-n", "--tz", "x y", "--"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("cron entry backup: next at ")
    (made,) = entries(cli)
    assert made["job_name"] == "mpdispatch.command"
    assert made["payload"]["argv"] == ["echo", "-n", "--tz", "x y", "--"]
    assert made["payload"]["cwd"] == str(tmp_path)
    assert (made["payload"]["env"]["LEVEL"], made["queue"], made["timeout"], made["max_retries"]) == (
        *("3", "nightly", 3600),
        0,
    )
    assert "echo -n --tz 'x y' --" in cli("cron", "list", "--store", "jobs.db").stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["n", "0 25 * * *", "report"], "schedule: the hour must be 0-23"),
        (["n", "30 2 30 2 *", "report"], "schedule: "),
        (["n", "@daily", "report", "--tz", "Europe/Berln"], "tz: .*did you mean 'Europe/Berlin'"),
        (["n", "@daily", "reprot"], "no handler 'reprot' in this engine; did you mean 'report'?"),
        (["n", "@daily", "report", "day:=5"], "day: is no argument of this job; did you mean days?"),
        (["n", "@daily", "report", "--overlap", "stack"], "--overlap"),
        (["n", "@daily", "report", "--starts-at", "soon"], "starts_at: must be a date or a time"),
        (["n", "@daily", "report", "--jitter", "soon"], "--jitter"),
        (["n", "@daily"], "give either the name of a job, or -- and a program to run"),
        (["n", "@daily", "report", "--", "ls"], "give either the name of a job, or -- and a program to run"),
        (["n", "@daily", "--"], "there is no program after --"),
        (
            ["n", "@daily", "--", "no-such-program-here"],
            "command: there is no program 'no-such-program-here' on PATH",
        ),
        (["n", "@daily", "--", "./tasks.py"], "command: './tasks.py' is no program that may be executed"),
        (["n", "@daily", "--", "./no-such"], "command: there is no program './no-such'"),
        (["n", "@daily", "report", "--env", "A=1"], "--cwd and --env are for a program"),
        (["a..b", "@daily", "report"], "name must not hold '..'"),
    ],
)
def test_what_is_wrong_is_refused_at_once_and_nothing_is_added(
    cli: Cli, app: Path, arguments: list[str], text: str
) -> None:
    place = arguments.index("--") if "--" in arguments else len(arguments)
    given = [*arguments[:place], "-A", "tasks:engine", *arguments[place:]]
    said = refused(cli("cron", "add", *given))
    assert text.replace(".*", " ").split(" ")[0] in said
    for part in text.split(".*"):
        assert part in said
    cli("migrate", "-A", "tasks:engine")
    assert entries(cli, str(app)) == []


def test_a_name_that_is_taken(cli: Cli) -> None:
    command = ("cron", "add", "a", "@daily", "report", "--store", "jobs.db")
    assert cli(*command).returncode == 0
    assert "name: there is a cron entry 'a' already (declared by: user)" in refused(cli(*command))


def test_the_default_store_is_not_made_unasked(cli: Cli, tmp_path: Path) -> None:
    assert "no store here" in refused(cli("cron", "add", "a", "@daily", "report"))
    assert cli("cron", "add", "a", "@daily", "report", "--create").returncode == 0
    assert (tmp_path / "mpdispatch.db").exists()


# ---------------------------------------------------------------- change


def test_disable_enable_trigger_and_remove(cli: Cli) -> None:
    store = ("--store", "jobs.db")
    for name in ("a", "b"):
        cli("cron", "add", name, "@daily", "report", *store)
    assert (
        cli("cron", "disable", "a", "b", *store).stdout
        == "cron entry a is disabled\ncron entry b is disabled\n"
    )
    assert [(each["enabled"], each["next_run_at"]) for each in entries(cli)] == [(False, None)] * 2
    assert "cron entry a is enabled: next at " in cli("cron", "enable", "a", *store).stdout
    assert cli("cron", "trigger", "b", *store).stdout == "1\n"
    (job,) = loaded(cli("cron", "trigger", "b", "--json", *store))
    assert (job["id"], job["name"], job["state"]) == (2, "report", "pending")
    assert [each["job_id"] for each in loaded(cli("cron", "history", "b", "--json", *store))] == [2, 1]
    gone = cli("cron", "remove", "nope", "a", *store)
    assert (gone.returncode, gone.stdout) == (1, "cron entry a is removed\n")
    assert "there is no cron entry 'nope'" in gone.stderr
    assert [each["name"] for each in entries(cli)] == ["b"]


def test_show_and_explain(cli: Cli) -> None:
    store = ("--store", "jobs.db")
    cli("cron", "add", "nightly", "@daily", "report", *store)
    assert "schedule         @daily\n" in cli("cron", "show", "nightly", *store).stdout
    assert loaded(cli("cron", "show", "nightly", "--json", *store)) == entries(cli)[0]
    said = cli("explain", "nightly", *store)
    assert (said.returncode, said.stderr) == (0, "")
    first, *reasons = said.stdout.splitlines()
    assert first.startswith("cron entry nightly (@daily, ")
    assert reasons[0].startswith("- no supervisor is running")
    found = loaded(cli("explain", "nightly", "--json", *store))
    assert (found["name"], found["reasons"][0]["code"]) == ("nightly", "no_supervisor")
    assert "there is no cron entry 'nope'; did" not in refused(cli("explain", "nope", *store), 1)


# ---------------------------------------------------------------- preview, backfill


def test_a_preview_needs_no_store_and_shows_the_clocks_of_the_zone(cli: Cli, tmp_path: Path) -> None:
    done = cli(
        "cron", "preview", "30 2 * * *", "-n", "2", "--tz", "Europe/Berlin", "--since", "2026-03-28T12:00"
    )
    head, first, second = done.stdout.splitlines()
    assert head.startswith("slot (Europe/Berlin)")
    assert first.startswith("Sun 2026-03-29 03:00:00 CEST  2026-03-29 01:00:00Z  ")
    assert "02:30 does not exist" in first
    assert second.startswith("Mon 2026-03-30 02:30:00 CEST")
    found = loaded(cli("cron", "preview", "@hourly", "--json"))
    assert [list(each) for each in found] == [["slot", "run_at", "note"]] * 5
    assert "schedule: " in refused(cli("cron", "preview", "61 * * * *"))
    assert not list(tmp_path.iterdir())


def test_a_backfill_prints_how_many_jobs_it_made(cli: Cli) -> None:
    store = ("--store", "jobs.db")
    cli("cron", "add", "nightly", "0 3 * * *", "report", "--tz", "Europe/Berlin", *store)
    assert cli("cron", "backfill", "nightly", "2026-10-01", "2026-10-04", *store).stdout == "fired: 3\n"
    assert loaded(cli("cron", "backfill", "nightly", "2026-10-03", "2026-10-05", "--json", *store)) == {
        "name": "nightly",
        "count": 1,
        "ids": [4],
    }
    assert "backwards" in refused(cli("cron", "backfill", "nightly", "2026-10-04", "2026-10-01", *store))


# ---------------------------------------------------------------- list --check


def test_check_tells_a_monitor_of_late_entries(cli: Cli) -> None:
    store = ("--store", "jobs.db")
    assert cli("cron", "add", "nightly", "@yearly", "report", *store).returncode == 0
    assert cli("cron", "list", "--check", *store).returncode == 0
    cli("cron", "add", "each", "* * * * * *", "report", "--late-after", "1s", *store)
    late = cli("cron", "list", "--check", "--json", *store)
    while late.returncode == 0:  # its first second is not over
        late = cli("cron", "list", "--check", "--json", *store)
    assert (late.returncode, late.stderr) == (1, "mpdispatch: late: each\n")
    assert [(each["name"], each["is_late"]) for each in json.loads(late.stdout)] == [
        ("each", True),
        ("nightly", False),
    ]
    assert cli("cron", "list", *store).returncode == 0


# ---------------------------------------------------------------- import

CRONTAB = r"""
# what a real one has
MAILTO=joe@example.org
PATH=/usr/local/bin:/usr/bin:/bin
CRON_TZ=Europe/Berlin
LEVEL="3 4"
5 0 * * *  $HOME/bin/daily.job >> $HOME/tmp/out 2>&1
@reboot echo started
15 14 1 * * cat%Dear Joe,%100\% of it
0 22 * * 1-5 date +\%s
"""
BROKEN = CRONTAB + "61 * * * * nope\n"


def test_a_crontab_becomes_entries_and_what_is_lost_is_said(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "crontab.txt").write_text(CRONTAB)
    store = ("--store", "jobs.db")
    dry = cli("cron", "import", "crontab.txt", "--dry-run", *store)
    assert dry.returncode == 0
    assert not (tmp_path / "jobs.db").exists()
    assert "would add" in dry.stdout
    assert "line 3 is not carried over: output is not mailed" in dry.stderr
    done = loaded(
        cli("cron", "import", "-", "--prefix", "my ", "--catch-up", "skip", "--json", *store, stdin=CRONTAB)
    )
    assert [each["name"] for each in done["added"]] == [each["name"] for each in done["found"]]
    assert [each["kind"] for each in done["problems"]] == ["changed"]
    found = {each["name"].removeprefix("my "): each for each in entries(cli)}
    assert {name: each["schedule"] for name, each in found.items()} == {
        "daily.job": "5 0 * * *",
        "echo": "@reboot",
        "cat": "15 14 1 * *",
        "date": "0 22 * * 1-5",
    }
    assert {(each["tz"], each["catch_up"], each["max_retries"]) for each in found.values()} == {
        ("Europe/Berlin", "skip", 0)
    }
    command = found["date"]["payload"]
    assert command["argv"] == ["/bin/sh", "-c", "date +%s"]
    assert command["cwd"] == command["env"]["HOME"]
    assert (command["env"]["PATH"], command["env"]["LEVEL"], command["env"]["SHELL"]) == (
        *("/usr/local/bin:/usr/bin:/bin", "3 4"),
        "/bin/sh",
    )
    assert "date +%s" in cli("cron", "list", *store).stdout


def test_what_a_line_of_a_crontab_reads_is_given_to_it(cli: Cli, tmp_path: Path) -> None:
    store = ("--store", "jobs.db")
    assert cli("cron", "import", "-", *store, stdin=CRONTAB).returncode == 0
    job = cli("cron", "trigger", "cat", *store).stdout.strip()
    assert cli("supervise", "--allow-commands", "--drain", *store).returncode == 0
    assert cli("logs", job, *store).stdout == "Dear Joe,\n100% of it\n"


def test_a_line_that_cannot_be_read_keeps_all_out_unless_it_is_skipped(cli: Cli, tmp_path: Path) -> None:
    store = ("--store", "jobs.db")
    said = refused(cli("cron", "import", "-", *store, stdin=BROKEN))
    assert "line 11 cannot be read: the minute must be 0-59" in said
    assert "nothing is added, because 1 line cannot be read; --skip-broken adds the others" in said
    assert not (tmp_path / "jobs.db").exists()
    assert cli("cron", "import", "-", "--skip-broken", *store, stdin=BROKEN).returncode == 0
    assert len(entries(cli)) == 4


def test_a_name_that_is_taken_keeps_all_out(cli: Cli) -> None:
    store = ("--store", "jobs.db")
    cli("cron", "add", "date", "@daily", "report", *store)
    done = cli("cron", "import", "-", *store, stdin=CRONTAB)
    assert done.returncode == 2
    assert "name: there is a cron entry 'date' already" in done.stderr
    assert [each["name"] for each in entries(cli)] == ["date"]


def test_of_a_system_crontab_only_own_lines_are_taken(cli: Cli) -> None:
    import getpass

    text = f"17 * * * * {getpass.getuser()} cd / && run-parts /etc/cron.hourly\n25 6 * * * somebody true\n"
    done = loaded(cli("cron", "import", "-", "--system", "--json", "--store", "jobs.db", stdin=text))
    assert [each["name"] for each in done["added"]] == ["run-parts"]
    assert [(each["line"], each["kind"]) for each in done["problems"]] == [(2, "left_out")]


@pytest.mark.parametrize(
    ("arguments", "stdin", "text"),
    [
        (["no-such-file"], "", "no-such-file: cannot be read"),
        (["-"], "SHELL=/no/such/shell\n@daily true\n", "there is no program '/no/such/shell'"),
        (["-"], "HOME=/no/such/home\n@daily true\n", "there is no folder '/no/such/home'"),
        (["-", "--tz", "Nowhere"], "@daily true\n", "tz: must be the name of a zone"),
        (["-", "--prefix", "a.."], "@daily true\n", "name must not hold '..'"),
    ],
)
def test_an_import_that_is_wrong(cli: Cli, arguments: list[str], stdin: str, text: str) -> None:
    assert text in refused(cli("cron", "import", *arguments, "--store", "jobs.db", stdin=stdin))

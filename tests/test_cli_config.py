"""`config check`: every setting in force and where it comes from, or every fault."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from mpdispatch.configfile import OtherSettings
from tests.conftest import Cli
from tests.test_config import DEFAULTS


def settings(cli: Cli, *args: str, **env: str) -> dict[str, dict[str, object]]:
    done = cli("config", "check", "--json", *args, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["settings"]


def test_without_anything_every_setting_is_its_default(cli: Cli) -> None:
    found = settings(cli)
    assert found.keys() == DEFAULTS.keys() | {each.name for each in dataclasses.fields(OtherSettings)}
    assert {each["source"] for each in found.values()} == {"default"}
    assert (found["concurrency"]["value"], found["base_path"]["value"]) == (10, "/api/dispatch")
    assert found["store"]["value"] == "mpdispatch.db"
    table = cli("config", "check").stdout
    assert "base_path" in table
    assert table.endswith("file: none\n")


def test_each_value_is_told_with_its_source(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "forge.yaml").write_text(
        "extensions:\n  dispatch:\n    concurrency: 3\n    queues: [a]\n    retention: 7d\n    base_path: /jobs\n"
        "    queue_configs: [{name: bulk, rate_limit: 5}]\n"
    )
    (tmp_path / "tasks.py").write_text(
        "from mpdispatch import Engine\nengine = Engine.open('own.db', concurrency=5, poll_interval=2)\n"
    )
    found = settings(cli, MPDISPATCH_QUEUES="x,y", MPDISPATCH_BASE_PATH="/env")
    where = "forge.yaml: extensions.dispatch"
    assert found["concurrency"] == {"value": 3, "source": f"{where}.concurrency"}
    assert found["queues"] == {"value": ["x", "y"], "source": "MPDISPATCH_QUEUES"}
    assert found["base_path"] == {"value": "/env", "source": "MPDISPATCH_BASE_PATH"}
    assert found["retention"] == {"value": 604_800.0, "source": f"{where}.retention"}
    limits = {"name": "bulk", "rate_limit": 5.0, "rate_burst": 1}
    assert found["queue_configs"] == {"value": [limits], "source": f"{where}.queue_configs"}
    of_app = settings(cli, "-A", "tasks:engine", "--store", "other.db", MPDISPATCH_CONCURRENCY="7")
    assert of_app["concurrency"] == {"value": 5, "source": "the app tasks:engine"}
    assert of_app["poll_interval"]["source"] == "the app tasks:engine"
    assert of_app["queues"]["source"] == f"{where}.queues"
    assert of_app["store"] == {"value": "other.db", "source": "--store"}
    assert of_app["app"] == {"value": "tasks:engine", "source": "-A"}
    assert cli("config", "check").stdout.endswith("file: forge.yaml, key extensions.dispatch\n")


def test_the_entries_of_a_file_are_shown_as_it_may_write_them(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mpdispatch.yaml").write_text(
        """
dispatch:
  crons:
    nightly: {schedule: "0 3 * * *", tz: Europe/Berlin, job: report, args: {day: 2026-11-01}, queue: bulk,
              expires: 2h, starts_at: 2026-12-01}
    tidy: {schedule: "@hourly", tz: UTC, command: "true", env: {A: b}, overlap: skip, jitter: 5}
"""
    )
    common = {"catch_up": "latest", "catch_up_limit": 100, "overlap": "allow", "jitter": 0.0}
    crons = settings(cli)["crons"]
    assert crons["source"] == "mpdispatch.yaml: dispatch.crons"
    nightly = {"name": "nightly", "schedule": "0 3 * * *", "tz": "Europe/Berlin", "job": "report"} | common
    tidy = {"name": "tidy", "schedule": "@hourly", "tz": "UTC", "command": ["true"], "env": {"A": "b"}} | common
    assert crons["value"] == [
        nightly
        | {"args": {"day": "2026-11-01"}, "queue": "bulk", "expires": 7200.0}
        | {"starts_at": "2026-11-30T23:00:00.000000Z"},
        tidy | {"overlap": "skip", "jitter": 5.0},
    ]
    (tmp_path / "mpdispatch.yaml").write_text(json.dumps({"dispatch": {"crons": crons["value"]}}))
    assert settings(cli)["crons"] == crons
    table = cli("config", "check")
    assert (table.returncode, table.stderr) == (0, "")
    assert '"schedule": "0 3 * * *"' in table.stdout


def test_every_fault_is_a_line_and_the_exit_code_is_78(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "dispatch:\n  concurency: 4\n  base_path: x\n  shutdown_timeout: soon\n  disable_migrate: 3\n  supervise: never\n"
    )
    done = cli("config", "check", "--config", "mine.yaml", env={"MPDISPATCH_QUEUES": ","})
    assert (done.returncode, done.stdout) == (78, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("mpdispatch: MPDISPATCH_QUEUES: ")
    for line, part in zip(
        lines[1:],
        [
            "dispatch.concurency: no such setting; did you mean dispatch.concurrency?",
            "dispatch.base_path: must be a path such as '/api/dispatch', not 'x'",
            "dispatch.shutdown_timeout: must be a duration",
            "dispatch.disable_migrate: must be true or false, not 3",
            "dispatch.supervise: must be true, false or 'auto', not 'never'",
        ],
        strict=True,
    ):
        assert line.startswith(f"mpdispatch: mine.yaml: {part}")


def test_a_file_for_an_apps_extension_drives_the_command_line_too(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text(
        "dispatch: {store: cli.db, app: 'tasks:engine', grove_database: '', disable_routes: true, supervise: false}\n"
    )
    assert cli("migrate").returncode == 0
    assert (tmp_path / "cli.db").exists()


@pytest.mark.parametrize("args", [("config",), ("config", "chekc")])
def test_config_alone_or_misspelt_is_a_usage_error(cli: Cli, args: tuple[str, ...]) -> None:
    assert cli(*args).returncode == 2

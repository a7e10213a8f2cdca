"""The command line before any command runs: help, lazy loading, errors, and where shared options may stand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner

from mpdispatch.cli.program import COMMANDS, Options, program

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_has_an_example_and_the_line_of_the_table(name: str) -> None:
    shown = CliRunner().invoke(program, [name, "--help"], prog_name="mpdispatch", obj=Options())
    assert shown.exit_code == 0
    assert f"mpdispatch {name}" in shown.output.partition("Examples:")[2]
    command = program.get_command(click.Context(program), name)
    assert command is not None
    assert command.name == name
    assert command.help


def test_help_lists_every_command(cli: Cli) -> None:
    shown = cli("--help")
    assert shown.returncode == 0
    for name, (_, line) in COMMANDS.items():
        assert f"{name} " in shown.stdout
        assert line in shown.stdout


def test_help_loads_no_command_and_nothing_heavy() -> None:
    code = (
        "import sys\nfrom mpdispatch.cli import main\nsys.argv = ['mpdispatch', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(shown.stderr.split())
    assert "mpdispatch.cli.program" in loaded
    assert not {name for name in loaded if name.startswith("mpdispatch.cli.commands")}
    heavy = {
        "asyncio",
        "difflib",
        "logging",
        "msgspec",
        "multiprocessing",
        "psutil",
        "rich",
        "sqlite3",
        "sqlite_utils",
        "yaml",
    }
    assert loaded & heavy == set()


def test_unknown_command_is_a_usage_error_with_the_nearest_one(cli: Cli) -> None:
    done = cli("job")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "'jobs'" in done.stderr
    assert done.stderr.startswith("mpdispatch: ")


def test_no_command_shows_the_help_and_is_a_usage_error(cli: Cli) -> None:
    done = cli()
    assert done.returncode == 2
    assert "Commands:" in done.stderr
    assert done.stdout == ""


def test_version(cli: Cli) -> None:
    assert cli("--version").stdout.startswith("mpdispatch")


def test_completion_scripts_are_built_in(cli: Cli) -> None:
    done = cli(env={"_MPDISPATCH_COMPLETE": "bash_source"})
    assert "_MPDISPATCH_COMPLETE=bash_complete" in done.stdout


def test_shared_options_may_stand_before_or_after_the_command(cli: Cli) -> None:
    for args in (["--store", "a.db", "--json", "migrate"], ["migrate", "--json", "--store", "a.db"]):
        done = cli(*args)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["store"].endswith("a.db")


def test_a_shared_option_after_the_command_wins(cli: Cli) -> None:
    done = cli("--store", "a.db", "migrate", "--json", "--store", "b.db")
    assert json.loads(done.stdout)["store"].endswith("b.db")


def test_an_internal_error_does_not_look_like_a_failed_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mpdispatch.cli.main import main

    monkeypatch.setattr(program, "invoke", lambda ctx: 1 // 0)
    with pytest.raises(SystemExit) as ended:
        main(["jobs"])
    assert ended.value.code == 70
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_output_to_a_reader_that_left_is_quiet(cli: Cli) -> None:
    script = f"{sys.executable} -m mpdispatch --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "141")  # it may have written all of it before the reader left


def test_output_that_cannot_be_written_is_an_io_error(cli: Cli) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m mpdispatch --help > /dev/full"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 74
    assert done.stderr.strip() == "mpdispatch: No space left on device"

"""What the README shows is true: its programs run, and its sessions print what they print there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

import pytest

from tests.extension.server import until

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


# What stands in for curl where there is none.
CURL = """
import sys, urllib.request
method = "POST" if "-X" in sys.argv else "GET"
headers = dict([sys.argv[sys.argv.index("-H") + 1].split(": ", 1)] if "-H" in sys.argv else [])
request = urllib.request.Request("http://" + sys.argv[-1], method=method, headers=headers)
print(urllib.request.urlopen(request).read().decode(), end="")
"""


class Block(NamedTuple):
    language: str
    text: str


BLOCKS = [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)]


def steps(session: str) -> Iterator[tuple[str, str]]:
    """(command, what it prints) of a console block."""
    for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Commands of the README mean this interpreter and this checkout."""
    commands = {"python": "", "mpdispatch": "-m mpdispatch", "uvicorn": "-m uvicorn"}
    if shutil.which("curl") is None:
        commands["curl"] = f"-c {shlex.quote(CURL)}"
    for name, module in commands.items():
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module} "$@"\n')
        script.chmod(0o755)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MPDISPATCH_")}
    return {**clean, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


class Server:
    """The web server a session of the README starts in the background, on a port of its own."""

    README = "localhost:8000"

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder, self._environment = folder, environment
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self._port = found.getsockname()[1]
        self.address = f"localhost:{self._port}"

    def start(self, command: str) -> None:
        with open(self._folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                [*shlex.split(command), "--port", str(self._port)],
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                executable=str(self._folder / "bin" / command.split()[0]),
            )
        until(self._answers, "the server answers")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()
        try:
            with urllib.request.urlopen(f"http://{self.address}/docs", timeout=30) as answer:
                return bool(answer.status == 200)
        except urllib.error.URLError:
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)


def test_programs_and_sessions_of_the_readme_run_as_shown(tmp_path: Path, environment: dict[str, str]) -> None:
    def run(command: str) -> str:
        done = subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return done.stdout

    for block in BLOCKS:
        if block.language in ("python", "yaml"):
            named = re.match(r"# (\w+\.(?:py|yaml))(, continued)?\n", block.text)
            name = named[1] if named else "snippet.py"
            with open(tmp_path / name, "a" if named and named[2] else "w") as program:
                program.write(block.text)
            if named is None:
                run(f"python {name}")
        elif block.language == "console":
            with Server(tmp_path, environment) as server:
                for command, printed in steps(block.text):
                    if command.startswith("uvicorn "):
                        server.start(command.removesuffix(" &"))
                    else:
                        said = run(command.replace(server.README, server.address))
                        # JSON of a web app ends in no new line.
                        assert said.removesuffix("\n") == printed.removesuffix("\n"), command


def test_every_block_of_the_readme_is_of_a_kind_that_is_tested() -> None:
    assert {block.language for block in BLOCKS} == {"python", "console", "sh", "yaml"}


def test_scripts_the_readme_names_are_those_ci_runs() -> None:
    """Shell blocks install things: CI runs them, this only sees that it does."""
    commands = [
        line.split(" #")[0].strip() for b in BLOCKS if b.language == "sh" for line in b.text.splitlines()
    ]
    assert commands[:2] == ["scripts/quickstart", ".venv/bin/mpdispatch jobs --store quickstart-data/jobs.db"]
    ci = (ROOT / ".ci" / "run").read_text()
    for command in commands:
        assert (ROOT / command.split()[0]).exists() or command.startswith(".venv/")
        assert command == ".ci/run" or command in ci, command


def test_quickstart_program_measures_and_reports(tmp_path: Path, environment: dict[str, str]) -> None:
    program = [sys.executable, str(ROOT / "scripts" / "examples" / "stdlib_metrics.py"), "--limit", "12"]
    for _ in range(2):  # it can be run again
        done = subprocess.run(
            program,
            cwd=tmp_path,
            env={**environment, "QUICKSTART_DATA": str(tmp_path / "data")},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        assert "12 files of Python" in done.stdout
        assert "12 completed, 0 failed" in done.stdout
        assert "jobs/s" in done.stdout
        assert "\x1b" not in done.stdout
    command = done.stdout.split("Look at them:")[1].strip().partition(" ")[2]
    listed = subprocess.run(
        ["sh", "-c", f"mpdispatch {command} --json --all"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert listed.stdout.count('"completed"') >= 24, listed.stderr

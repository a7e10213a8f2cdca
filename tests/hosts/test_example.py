"""The walkthrough in `scripts/examples` goes as it says, on hosts that it makes by itself."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.fixtures import Place
from tests.whole.harness import ROOT

EXAMPLE = ROOT / "scripts" / "examples" / "two_hosts.sh"
HOST = ["unshare", "--map-root-user", "--uts", "--pid", "--mount", "--fork", "--mount-proc"]


def test_a_job_of_a_host_that_is_switched_off_ends_on_the_other_one(
    new_place: Callable[[str], Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        done = subprocess.run([*HOST, "true"], capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no unshare: {error}")
    if done.returncode != 0:
        pytest.skip(f"no leave to make namespaces: {done.stderr.strip()}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    done = subprocess.run([EXAMPLE, new_place("valkey").location], capture_output=True, text=True, timeout=110)
    assert (done.returncode, done.stderr) == (0, ""), done
    told = re.search(r"supervisor \d+ \(pid 1 on (east|west)\)", done.stdout)
    assert told is not None, done.stdout
    other = {"east": "west", "west": "east"}[told[1]]
    ended = re.findall(r'^(\d+) completed "(\w+)"$', done.stdout, re.MULTILINE)
    assert ended == [(str(number), other) for number in range(1, 6)], done.stdout
    assert "lease_lost" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_walkthrough_is_read_in_a_minute() -> None:
    assert EXAMPLE.read_text().count("\n") <= 60

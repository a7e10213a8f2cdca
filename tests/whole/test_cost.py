"""What it costs to have it: seconds, per cent of a core, mebibytes."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from pathlib import Path

import pytest

from tests.whole.harness import CLI, PYTHON, Place, descendants, until

pytestmark = pytest.mark.serial


def test_help_takes_at_most_two_and_a_half_imports_of_click(place: Place) -> None:
    ours, theirs = [], []
    env = {key: value for key, value in place.env.items() if key != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(15):
        for argv, times in (([*CLI, "--help"], ours), ([PYTHON, "-c", "import click"], theirs)):
            begun = time.perf_counter()
            subprocess.run(argv, cwd=place.folder, env=env, stdout=subprocess.DEVNULL, check=True)
            times.append(time.perf_counter() - begun)
    a, b = statistics.median(ours), statistics.median(theirs)
    print(f"--help {a * 1000:.0f} ms, import click {b * 1000:.0f} ms: {a / b:.2f} times")
    assert a <= 2.5 * b


def test_an_idle_supervisor_uses_half_a_per_cent_of_a_core_at_most(place: Place) -> None:
    supervisor = place.supervising("-c", "2")
    settled = [-1.0]

    def is_settled() -> bool:
        """Whether all have done what they do once: imports, above all."""
        settled.append(sum(map(cpu_s, [supervisor.pid, *descendants(supervisor.pid)])))
        return settled[-1] - settled[-2] <= 0.01

    until(is_settled, "the end of the start", every=1)
    pids = [supervisor.pid, *descendants(supervisor.pid)]
    before, begun = sum(map(cpu_s, pids)), time.monotonic()
    until(lambda: time.monotonic() - begun > 12, "twelve idle seconds", every=1)
    share = (sum(map(cpu_s, pids)) - before) / (time.monotonic() - begun)
    print(f"idle: {share:.3%} of a core, workers included")
    assert share <= 0.005


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_supervisor_with_two_idle_workers_holds_at_most_60_mib(place: Place) -> None:
    (place.folder / "empty.py").write_text(
        "import time\nfrom mpdispatch import Engine\nengine = Engine.open('jobs.db')\n"
        "@engine.job()\ndef nap():\n    time.sleep(0.3)\n"
    )
    # Whoever makes a store loads sqlite-utils for it, and that loads NumPy where it is installed: 15 MiB, once in its life.
    place.cli("migrate", "--store", "jobs.db")
    supervisor = place.supervise("-c", "2", app="empty:engine")
    for _ in range(4):
        place.cli("enqueue", "nap", "--store", "jobs.db")
    until(lambda: place.counts()["completed"] == 4, "both workers ran something")
    pids = [supervisor.pid, *descendants(supervisor.pid)]
    held = {pid: pss_kib(pid) for pid in pids}
    print(f"{len(pids)} processes: {sum(held.values()) / 1024:.1f} MiB PSS", held)
    assert len(pids) >= 3
    assert sum(held.values()) <= 60 * 1024


def pss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError(f"no Pss of {pid}")

"""The bench: every mode runs and says what it must, at a size at which the figures themselves mean nothing."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "scripts" / "benchmarks"

BLOCKS = runpy.run_path(str(BENCHMARKS / "blocks.py"))

# mode: (name of a figure (its beginning), has a reference, has a target)
EXPECTED = {
    "drain": [
        ("200 no-ops", True, True),
        ("largest WAL", False, True),
        ("200 no-ops of a batch", True, True),
    ],
    "map-results": [
        ("200 no-ops, results in order", True, True),
        ("200 no-ops, results as they come", True, True),
    ],
    "enqueue": [
        ("single", True, True),
        ("bulk, 200 jobs", True, True),
        ("bulk, raw", False, False),
        ("8 processes", True, False),
        ("8 processes, p99", True, False),
        ("p99 of one enqueue while draining", True, True),
    ],
    "latency": [
        ("idle, enqueue in other process → first line: p50", True, True),
        ("idle, enqueue in other process → first line: p99", True, True),
        ("idle, enqueue in same process → first line: p50", True, True),
        ("idle, enqueue in same process → first line: p99", True, True),
        ("handler returns → wait() returns: p99", True, True),
        ("half load, enqueue → first line: p50", True, False),
        ("half load, enqueue → first line: p99", True, False),
    ],
    "cpu": [
        ("4 jobs of 50 ms", True, True),
        ("20 jobs of 5 ms", True, True),
        ("100 jobs of 1 ms", True, True),
    ],
    "backlog": [
        ("600 pending", True, True),
        ("600 finished kept", True, True),
        ("600 scheduled", True, True),
        ("50 queues", True, True),
        ("600 pending of 10 priorities", True, True),
    ],
    "retention": [
        ("180 of 600 ended jobs: pruned", False, False),
        ("180 of 600 ended jobs: longest of", False, True),
        ("180 of 180 ended jobs: pruned", False, False),
        ("180 of 180 ended jobs: longest of", False, True),
        ("180 of 180 ended jobs: the file", True, True),
        ("180 of 600 ended jobs: CPU to prune", False, False),
        ("then to make the file smaller", False, False),
        ("a round with 420 young jobs", False, False),
        ("a round with a limit of 210 jobs", False, False),
    ],
    "footprint": [("PSS of supervisor", True, True), ("idle CPU", True, True)],
    "start": [
        ("kill -9 of a worker", True, True),
        ("kill -9 of a supervisor", False, True),
        ("the same with 600 rows", True, True),
    ],
    "forkserver": [
        ("kill -9 of a worker", True, False),
        ("PSS of four workers", True, False),
        ("PSS of supervisor, zygote, four workers", True, False),
    ],
    "map": [("20 commands, 2 at once", True, False), ("2 sleeps, 2 at once", True, False)],
    "profile": [
        ("CPU of supervisor", True, False),
        ("CPU of workers", False, False),
        ("written to disk", False, False),
    ],
}


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        str(BENCHMARKS),
        *arguments,
        "--size",
        "smallest",
        "--dir",
        str(folder / "stores"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            printed, told = process.communicate(timeout=100)
        except subprocess.TimeoutExpired:
            process.terminate()  # so that it ends its supervisors and workers
            printed, told = process.communicate(timeout=15)
    return subprocess.CompletedProcess(command, process.returncode, printed, told)


@pytest.mark.serial
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("mode", EXPECTED)
def test_each_mode_gives_its_figures_as_json(mode: str, tmp_path: Path) -> None:
    done = bench(tmp_path, "--only", mode, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["errors"] == {}
    assert {"date", "command", "size", "versions", "machine", "settings", "peers", "figures"} <= report.keys()
    assert report["versions"].keys() == {"mpdispatch", "python", "sqlite"}
    assert report["machine"].keys() == {"cpu", "cpus", "kernel", "filesystem"}
    figures = report["figures"]
    for expected, figure in zip(EXPECTED[mode], figures, strict=mode != "profile"):
        check(figure, mode, *expected)
    if mode == "profile":  # the rest is strace's, where there is one that may look
        assert all("system calls" in each["name"] or "fsyncs" in each["name"] for each in figures[3:])
    assert not (tmp_path / "stores").exists()


def check(figure: dict[str, Any], mode: str, name: str, has_reference: bool, has_target: bool) -> None:
    assert figure["mode"] == mode
    assert figure["name"].startswith(name)
    assert isinstance(figure["value"], float | int)
    assert figure["value"] >= 0
    assert (figure["reference"] is not None) == has_reference
    assert (figure["reference_name"] is not None) == has_reference
    assert (figure["target"] is not None) == has_target
    assert (figure["verdict"] in {"ok", "miss"}) == has_target


def test_a_mode_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    done = bench(tmp_path, "drian")
    assert done.returncode == 2
    assert "no such mode: drian" in done.stderr
    assert not (tmp_path / "stores").exists()


def test_each_block_of_a_subject_lies_between_two_of_the_reference() -> None:
    seen: list[str] = []

    def measurement(name: str, values: list[float]) -> Any:
        def measure() -> float:
            seen.append(name)
            return values.pop(0)

        return measure

    blocks = BLOCKS["interleave"](
        measurement("A", [1.0, 3.0, 5.0]),
        {"B": measurement("B", [4.0, 4.0]), "C": measurement("C", [2.0, 8.0])},
        2,
    )
    assert "".join(seen) == "ABCABCA"
    assert blocks.ratios("B") == [2.0, 1.0]
    assert blocks.ratios_between("B", "C") == [2.0, 0.5]


def test_the_99th_percentile_is_a_value_that_was_measured() -> None:
    p99 = BLOCKS["p99"]
    assert p99([7.0]) == 7.0
    assert p99(list(range(1, 101))) == 99
    assert p99([5.0, 1.0, 3.0]) == 5.0

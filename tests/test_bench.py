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

from tests.servers.binaries import Absent, postgres_folder, redis_binary, valkey_binary
from tests.servers.fixtures import NewServer, absent

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
    "supervisors": [("200 no-ops, 4 supervisors of 2 workers", True, False)],
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


# mode: as in EXPECTED, on a server
EXPECTED_ON_SERVERS = {
    "drain": [("200 no-ops", True, False), ("200 no-ops of a batch", True, True)],
    "supervisors": [("200 no-ops, 4 supervisors of 2 workers", True, True)],
}


@pytest.mark.serial
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("kind", "mode"), [("postgres", "drain"), ("redis", "drain"), ("valkey", "supervisors")]
)
def test_stores_are_measured_on_a_server_that_is_started_for_it(kind: str, mode: str, tmp_path: Path) -> None:
    require(kind)
    done = bench(tmp_path, "--store", kind, "--only", mode, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["errors"] == {}
    said = {"postgres": "PostgreSQL", "redis": "Redis", "valkey": "Valkey"}[kind]
    assert report["server"].startswith(said)
    assert ("fsync=on" if kind == "postgres" else "appendfsync=always") in report["server"]
    for expected, figure in zip(EXPECTED_ON_SERVERS[mode], report["figures"], strict=True):
        check(figure, mode, *expected)


def require(kind: str) -> None:
    """Skip where there is no such server, as the fixtures do."""
    look = {"postgres": postgres_folder, "redis": redis_binary, "valkey": valkey_binary}[kind]
    try:
        look()
    except Absent as reason:
        absent(str(reason))


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


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--store", "mysql"], "a store is postgres, redis, valkey, postgresql://… or redis://…, not mysql"),
        (["--store", "mysql://ann:secret@db/jobs"], "not mysql"),
        (["--store", "redis", "cron", "drain"], "measured with --store sqlite only: cron"),
        (["--peer", "taskiq"], "no peer on sqlite: taskiq; there are huey, apscheduler, celery, parallel"),
        (["--store", "valkey", "--peer", "pgqueuer"], "no peer on valkey: pgqueuer; there are taskiq, rq"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(asked: list[str], said: str, tmp_path: Path) -> None:
    done = bench(tmp_path, *asked)
    assert done.returncode == 2
    assert said in done.stderr
    assert "secret" not in done.stderr
    assert not (tmp_path / "stores").exists()


def test_a_server_that_is_in_use_is_left_alone(new_server: NewServer, tmp_path: Path) -> None:
    import redis

    server = new_server("redis", "127.0.0.1")
    with redis.Redis.from_url(server.tcp_dsn) as client:
        client.set("theirs", "kept")
        done = bench(tmp_path, "--store", server.tcp_dsn, "drain")
        assert done.returncode == 1
        assert "the server is not empty" in done.stderr
        assert client.get("theirs") == b"kept"


PEER = """
import os, subprocess, sys
from pathlib import Path
import stamps

# A queue of files: a worker takes one by renaming it.
FOLDER = Path(os.environ["BENCH_SERVER"])
COMMANDS = [["python", "-c", "import made_up_app; made_up_app.consume()"]] * 2
numbers = iter(range(10**9))

def consume():
    while True:
        for path in sorted(FOLDER.glob("*.job")):
            try:
                mine = path.rename(path.with_suffix(f".{os.getpid()}"))
            except FileNotFoundError:
                continue
            if "stamp" in mine.name:
                stamps.stamp()
            mine.unlink()

def prepare():
    FOLDER.mkdir()
def enqueue(name):
    (FOLDER / f"{next(numbers):09}-{name}.job").touch()
def fill(count):
    for _ in range(count):
        enqueue("noop")
def stamp():
    enqueue("stamp")
def left():
    return len(list(FOLDER.iterdir()))
"""


@pytest.mark.parametrize(("mode", "count"), [("drain", 40), ("latency", 3)])
def test_the_driver_of_peers_measures_any_queue(mode: str, count: int, tmp_path: Path) -> None:
    # In a folder with the driver, as the apps of peers are.
    for name in ("driver.py", "stamps.py"):
        (tmp_path / name).write_text((BENCHMARKS / "server_peers" / name).read_text())
    (tmp_path / "made_up_app.py").write_text(PEER)
    command = [
        sys.executable,
        str(tmp_path / "driver.py"),
        "made_up",
        mode,
        str(tmp_path / "queue"),
        str(count),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if mode == "drain":
        assert 0 < found < 1e6
        assert not list((tmp_path / "queue").iterdir())
    else:
        assert len(found) == count
        assert all(0 < each < 60_000 for each in found)


def test_the_driver_says_what_a_consumer_said_that_does_not_start(tmp_path: Path) -> None:
    for name in ("driver.py", "stamps.py"):
        (tmp_path / name).write_text((BENCHMARKS / "server_peers" / name).read_text())
    (tmp_path / "made_up_app.py").write_text(
        PEER.replace("def consume():", "def consume():\n    sys.exit('no luck')")
    )
    command = [sys.executable, str(tmp_path / "driver.py"), "made_up", "drain", str(tmp_path / "queue"), "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "0 of 2 workers came up" in done.stderr
    assert "no luck" in done.stderr


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

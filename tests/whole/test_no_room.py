"""Disks that are full when a supervisor starts, and quotas that are used up: it waits, and goes on when there is room."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.whole.harness import PYTHON, Place, Process, until

ENQUEUE = """
import sys
from mpdispatch.errors import StoreError
from mpdispatch.model import NewJob
from mpdispatch.store import SQLiteStore
for _ in range(2):
    try:
        print(SQLiteStore("jobs.db").enqueue(NewJob(name="plain", payload=b"{}")).id)
    except StoreError as error:
        print(type(error).__name__)
"""

PROGRAM = """
import os, time
import tasks
with tasks.engine.dispatcher:
    print("started", flush=True)
    while not os.path.exists("go"):
        time.sleep(0.01)
"""


def strace(*argv: str, error: str) -> list[str]:
    """strace, with every write of SQLite's failing with this error."""
    if shutil.which("strace") is None:
        pytest.skip("no strace here")
    inject = ["-e", "trace=pwrite64", "-e", f"inject=pwrite64:error={error}"]
    return ["strace", "-f", "-qq", "-o", "/dev/null", *inject, *argv]


@pytest.mark.parametrize(("error", "named"), [("EDQUOT", "StoreFull"), ("EIO", "StoreIOError")])
def test_a_used_up_quota_is_a_full_disk_and_a_broken_disk_is_not(place: Place, error: str, named: str) -> None:
    place.app.plain.enqueue()
    done = subprocess.run(
        strace(PYTHON, "-c", ENQUEUE, error=error),
        cwd=place.folder,
        env=place.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip("no leave to trace")
    assert done.stdout.split() == [named, named], done.stderr
    assert place.counts()["pending"] == 1
    assert [path.name for path in place.folder.glob("tmp*")] == []


@pytest.fixture
def use_up(place: Place) -> Iterator[Callable[[Process], subprocess.Popen[bytes]]]:
    """Uses up the quota of a process that runs, until what it gives is ended."""
    tracers: list[subprocess.Popen[bytes]] = []

    def trace(process: Process) -> subprocess.Popen[bytes]:
        tracer = subprocess.Popen(strace("-p", str(process.pid), error="EDQUOT"), stderr=subprocess.DEVNULL)
        tracers.append(tracer)
        status = Path(f"/proc/{process.pid}/status")

        def is_traced() -> bool:
            if tracer.poll() is not None:
                pytest.skip("no leave to trace")
            return f"TracerPid:\t{tracer.pid}" in status.read_text()

        until(is_traced, "it is traced")
        return tracer

    yield trace
    for tracer in tracers:
        tracer.kill()
        tracer.wait()


def test_a_supervisor_whose_quota_is_used_up_goes_on_when_there_is_room(
    place: Place, use_up: Callable[[Process], subprocess.Popen[bytes]]
) -> None:
    supervisor = place.supervising("-c", "1")
    tracer = use_up(supervisor)
    job_id = place.app.quick.enqueue(n=3).id
    until(lambda: "the disk is full" in supervisor.err, "the supervisor says so")
    assert supervisor.popen.poll() is None
    tracer.send_signal(signal.SIGINT)  # it lets go
    tracer.wait()
    assert place.complete(job_id).result == 3
    assert supervisor.popen.poll() is None


@pytest.fixture
def full_disk(place: Place, small_disk: Path) -> Path:
    """Its folder, with the store of the place's app on it; all its room is in `ballast`."""
    tasks = place.folder / "tasks.py"
    tasks.write_text(tasks.read_text().replace('HERE / "jobs.db"', 'HERE / "disk" / "jobs.db"'))
    place.db = small_disk / "jobs.db"
    return small_disk


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    return ballast


@pytest.mark.parametrize("is_new", [True, False], ids=["no store yet", "a store with a job"])
def test_a_supervisor_that_starts_on_a_full_disk_waits_for_room(
    place: Place, full_disk: Path, is_new: bool
) -> None:
    if not is_new:
        place.app.quick.enqueue(n=1)
        place.app.engine.store.close_all()
    ballast = fill(full_disk)
    supervisor = place.supervise("-c", "1")
    until(lambda: "the disk is full" in supervisor.err, "the supervisor says so")
    with pytest.raises(AssertionError, match="did not end"):
        supervisor.ended(1.5)
    assert supervisor.err.count("the disk is full; starting") == 1
    ballast.unlink()
    until(lambda: "works again" in supervisor.err, "it starts")
    assert place.complete(place.app.quick.enqueue(n=7).id).result == 7
    supervisor.kill(signal.SIGTERM)
    assert supervisor.ended() == 0


def test_a_supervisor_that_waits_for_room_can_be_told_to_stop(place: Place, full_disk: Path) -> None:
    fill(full_disk)
    supervisor = place.supervise("-c", "1")
    until(lambda: "the disk is full" in supervisor.err, "the supervisor says so")
    supervisor.kill(signal.SIGTERM)
    assert supervisor.ended() == 0


def test_a_supervisor_on_a_thread_does_not_hold_up_its_program_while_the_disk_is_full(
    place: Place, full_disk: Path
) -> None:
    job_id = place.app.quick.enqueue(n=5).id
    place.app.engine.store.close_all()
    ballast = fill(full_disk)
    program = place.start([PYTHON, "-c", PROGRAM], {"MPDISPATCH_CONCURRENCY": "1"})
    until(lambda: "started" in program.out, "the program goes on")
    assert program.popen.poll() is None
    ballast.unlink()
    assert place.complete(job_id).result == 5
    (place.folder / "go").touch()
    assert program.ended() == 0

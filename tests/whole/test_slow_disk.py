"""A disk that takes 200 ms for each flush delays neither a timeout nor a kill: a shim of the C library makes it so."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.whole.harness import CLI, Place, boottime_ns, is_alive, until

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs LD_PRELOAD and a C compiler"
)

LATE_S = 0.1
"""20 ms, and as much as a machine that is busy with other tests may add; a flush takes 200 ms."""

_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
static void wait_for_the_disk(void) { struct timespec t = {0, 200000000}; nanosleep(&t, 0); }
int fsync(int fd) { wait_for_the_disk(); return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd); }
int fdatasync(int fd) { wait_for_the_disk(); return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd); }
"""


@pytest.fixture
def slow_disk(tmp_path: Path) -> str:
    """What LD_PRELOAD is to be."""
    source, library = tmp_path / "slow_disk.c", tmp_path / "slow_disk.so"
    source.write_text(_SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return str(library)


@pytest.fixture
def busy(place: Place, slow_disk: str) -> int:
    """A supervisor on such a disk, whose commits follow each other without a pause; gives its pid."""
    process = place.start(
        [*CLI, "supervise", "tasks:engine", "-c", "2"],
        {"LD_PRELOAD": slow_disk, "MPDISPATCH_KILL_GRACE": "0.1"},
    )
    place.complete(place.app.quick.enqueue().id)
    place.complete(place.app.quick.enqueue().id)
    return process.pid


class _Flow:
    """Jobs that come and go, so that some outcome is always on its way to the disk."""

    def __init__(self, place: Place) -> None:
        self._place, self._is_over = place, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._is_over.wait(0.02):
            self._place.app.quick.enqueue()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()


def test_a_timeout_is_enforced_on_time_while_the_disk_is_slow(place: Place, busy: int) -> None:
    late = list[float]()
    with _Flow(place):
        for _ in range(5):
            job_id = place.app.until_file.options(timeout=0.5, max_retries=0).enqueue("never").id
            place.ended(job_id, "failed")
            (attempt,) = place.app.engine.attempts(job_id)
            late.append(attempt.duration_s - 0.5)
    print("late by", [f"{each * 1000:.0f} ms" for each in late])
    assert sorted(late)[3] < LATE_S, "all but one, if the machine is busy"


def test_a_stop_that_is_urgent_kills_at_once_while_the_disk_is_slow(place: Place, busy: int) -> None:
    with _Flow(place):
        job_id = place.app.ignore_everything.enqueue().id
        pid = place.started(job_id)[3]
        os.kill(busy, signal.SIGTERM)
        os.kill(busy, signal.SIGINT)
        told = boottime_ns()
        until(lambda: not is_alive(pid), "the worker is dead", within=5, every=0.002)
        late_s = (boottime_ns() - told) / 1e9
    print(f"killed after {late_s * 1000:.0f} ms")
    assert late_s < LATE_S

"""Huey beside us: its driver. Run by the Python of a throw-away environment that has nothing but Huey.

python huey_driver.py drain|enqueue|latency STORE fsync|nofsync COUNT   prints one JSON value
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

PATIENCE_S = 60.0


def app(store: str, is_fsync: bool) -> ModuleType:
    """The app on this store. It reads the environment when it is imported."""
    os.environ["BENCH_HUEY"], os.environ["BENCH_HUEY_FSYNC"] = store, "01"[is_fsync]
    return importlib.import_module("huey_app")


@contextmanager
def consumer(is_fsync: bool, *options: str) -> Iterator[None]:
    """Its own consumer with two worker processes. SIGINT ends it in order, workers included."""
    start = "from huey.bin.huey_consumer import consumer_main; consumer_main()"
    process = subprocess.Popen(
        [sys.executable, "-c", start, "huey_app.huey", "-w", "2", "-k", "process", "-n", "-q", *options],
        env={**os.environ, "BENCH_HUEY_FSYNC": "01"[is_fsync], "PYTHONPATH": sys.path[0]},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def drain(store: str, is_fsync: bool, count: int) -> float:
    """Tasks per second from the moment the first was seen taken to the moment none is left."""
    tasks = app(store, False)  # without fsync here: filling is not measured
    for _ in range(count):
        tasks.noop()
    # The shortest polling there is: nothing is measured but work.
    with consumer(is_fsync, "-d", "0.001", "-m", "0.01"):
        deadline = time.monotonic() + PATIENCE_S
        left_at_first = left = count
        began = 0.0
        while left:
            if time.monotonic() > deadline:
                raise SystemExit(f"Huey left {left} of {count} tasks in {PATIENCE_S:.0f} s")
            time.sleep(0.002)
            left = tasks.huey.storage.queue_size()
            if not began and left < count:
                began, left_at_first = time.perf_counter(), max(left, 1)
        return left_at_first / (time.perf_counter() - began)


def enqueue(store: str, is_fsync: bool, count: int) -> float:
    """Tasks per second, one by one."""
    tasks = app(store, is_fsync)
    tasks.noop()
    began = time.perf_counter()
    for _ in range(count):
        tasks.noop()
    return count / (time.perf_counter() - began)


def latency(store: str, is_fsync: bool, count: int) -> list[float]:
    """Milliseconds from enqueue to the task's first line, with the consumer's default polling."""
    tasks = app(store, is_fsync)
    found = []
    with consumer(is_fsync):
        for number in range(count + 3):
            time.sleep(0.005)
            began = time.monotonic_ns()
            started = tasks.stamp().get(blocking=True, timeout=PATIENCE_S)
            if number >= 3:  # its processes are up
                found.append((started - began) / 1e6)
    return found


if __name__ == "__main__":
    mode, where, setting, number = sys.argv[1:]
    Path(where).parent.mkdir(parents=True, exist_ok=True)
    drive = {"drain": drain, "enqueue": enqueue, "latency": latency}[mode]
    print(json.dumps(drive(where, setting == "fsync", int(number))))

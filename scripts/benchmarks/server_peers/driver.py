"""Measures one peer on a server. Run by the Python of an environment that has nothing but this peer.

python driver.py NAME drain|latency URL COUNT   prints one JSON value; `NAME_app.py` is the peer's app

An app is a module with `COMMANDS` (its consumers: two worker processes together) and functions `prepare()`, called first;
`fill(count)`, which enqueues so many no-ops; `stamp()`, which enqueues one stamp; and `left()`: how many jobs are not yet
done for good.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from stamps import PATIENCE_S, Stamps

WORKERS = 2


class Consumers:
    """Its worker processes, each command in a group of its own."""

    def __init__(self, commands: Sequence[Sequence[str]], folder: Path) -> None:
        self._log = folder / "log"
        bin_folder = Path(sys.executable).parent
        with self._log.open("ab") as log:
            self._processes = [
                subprocess.Popen(
                    [str(bin_folder / program), *arguments],
                    env={**os.environ, "PYTHONPATH": sys.path[0], "PYTHONWARNINGS": "ignore"},
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                for program, *arguments in commands
            ]

    def send(self, number: signal.Signals) -> None:
        for each in self._processes:
            os.killpg(each.pid, number)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What is enqueued meanwhile reaches them at one moment."""
        time.sleep(0.1)  # what they had is done
        self.send(signal.SIGSTOP)
        try:
            yield
        finally:
            self.send(signal.SIGCONT)

    def wait_for_workers(self, stamp: Callable[[], None], stamps: Stamps) -> None:
        """Until each has had a job, and all these jobs are done. Raises TimeoutError."""
        seen: set[int] = set()
        deadline = time.monotonic() + PATIENCE_S
        waiting = 0
        while len(seen) < WORKERS or waiting:
            if time.monotonic() > deadline or any(each.poll() is not None for each in self._processes):
                raise TimeoutError(f"{len(seen)} of {WORKERS} workers came up")
            if not waiting:
                waiting = 10
                for _ in range(waiting):
                    stamp()
            try:
                seen.add(stamps.next(1.0)[1])
                waiting -= 1
            except TimeoutError:
                continue

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def end(self) -> None:
        """At once: all they have is thrown away with their database."""
        self.send(signal.SIGKILL)
        for each in self._processes:
            each.wait()


@contextmanager
def consumers(app: ModuleType, stamps: Stamps, folder: Path) -> Iterator[Consumers]:
    """They run, and both workers have had a job."""
    found = Consumers(app.COMMANDS, folder)
    try:
        found.wait_for_workers(app.stamp, stamps)
        yield found
    except TimeoutError as error:
        raise SystemExit(f"{error}: {found.log()}") from None
    finally:
        found.end()


def drain(app: ModuleType, stamps: Stamps, folder: Path, count: int) -> float:
    """Jobs per second from the first line of the first of them until all are done for good."""
    with consumers(app, stamps, folder) as workers:
        with workers.stopped():
            app.stamp()
            app.fill(count - 2)
            app.stamp()
        began_ns, _ = stamps.next()
        stamps.next()
        deadline = time.monotonic() + PATIENCE_S
        while left := app.left():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{left} jobs are left")
            time.sleep(0.002)
        return count * 1e9 / (time.monotonic_ns() - began_ns)


def latency(app: ModuleType, stamps: Stamps, folder: Path, count: int) -> list[float]:
    """Milliseconds from the call that enqueues a job to its first line, one job at a time."""
    found = []
    with consumers(app, stamps, folder):
        for _ in range(count):
            time.sleep(random.uniform(0.002, 0.006))
            began_ns = time.monotonic_ns()
            app.stamp()
            found.append((stamps.next()[0] - began_ns) / 1e6)
    return found


def main(name: str, mode: str, url: str, count: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ["BENCH_SERVER"] = url
    with TemporaryDirectory() as made:
        folder = Path(made)
        stamps = Stamps(folder)
        app = importlib.import_module(f"{name}_app")
        app.prepare()
        print(json.dumps({"drain": drain, "latency": latency}[mode](app, stamps, folder, int(count))))


if __name__ == "__main__":
    main(*sys.argv[1:])

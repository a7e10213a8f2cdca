"""A dask cluster of real processes: a scheduler, and workers in nannies. Runs in the test."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.pool.probes import until

ROOT = str(Path(__file__).resolve().parents[2])
THREADS = 2
"""Of each dask worker."""


class Cluster:
    """Started with `start`, and ended with all that it started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._scheduler: subprocess.Popen[bytes] | None = None
        self._workers: list[subprocess.Popen[bytes]] = []
        self.port = _free_port()
        self._log = (folder / "cluster.log").open("ab")

    @property
    def pool(self) -> str:
        return f"dask://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def start_scheduler(self) -> None:
        self._scheduler = self._run(
            "scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"
        )

    def add_workers(self, count: int, *options: str) -> None:
        self._workers.append(
            self._run(
                *(
                    "worker",
                    self.address,
                    "--nworkers",
                    str(count),
                    "--nthreads",
                    str(THREADS),
                    "--no-dashboard",
                ),
                *("--local-directory", str(self._folder), "--memory-limit", "0", *options),
            )
        )

    def _run(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *words],
            env={**os.environ, "PYTHONPATH": ROOT, "DASK_DISTRIBUTED__WORKER__DAEMON": "False"},
            cwd=self._folder,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def kill_scheduler(self) -> None:
        """SIGKILL, as its host's death would end it."""
        assert self._scheduler is not None
        self._scheduler.kill()
        self._scheduler.wait()

    def close(self) -> None:
        for process in [*self._workers, self._scheduler]:
            if process is None:
                continue
            tree = [process.pid]
            with contextlib.suppress(psutil.NoSuchProcess):
                tree += [each.pid for each in psutil.Process(process.pid).children(recursive=True)]
            for pid in tree:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
        self._log.close()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def cluster(folder: Path, workers: int = 2, *options: str) -> Iterator[Cluster]:
    made = Cluster(folder)
    try:
        made.start_scheduler()
        until(lambda: _answers(made.port), timeout_s=20, what="a dask scheduler")
        if workers:
            made.add_workers(workers, *options)
        yield made
    finally:
        made.close()


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


__all__ = ["THREADS", "Cluster", "cluster"]

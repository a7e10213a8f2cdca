"""Other queues, measured in the same run from throw-away environments of their own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sizes import Size

HERE = Path(__file__).resolve().parent


class Paths(Protocol):
    """Gives fresh paths for stores."""

    def path(self, name: str) -> Path: ...


class Peer:
    """A queue that can be measured, in each of its `settings` (→ how many times faster we mean to drain)."""

    latency_limit: float | None = None
    """How many times as long as with it an idle supervisor may take to a job's first line."""

    def __init__(
        self, name: str, python: Path, version: str, settings: Mapping[str, float], notes: str
    ) -> None:
        self.name, self.settings = name, settings
        self._python, self._version, self._notes = python, version, notes

    def describe(self) -> str:
        """Which one it is, and how it is set up."""
        return f"{self.name} {self._version}: {self._notes}"

    def jobs_of(self, size: Size) -> int:
        """How many it drains in a block."""
        return size.peer_jobs

    def drain_rate(self, paths: Paths, setting: str, jobs: int) -> Callable[[], float]:
        """Measures jobs per second, workers up before the clock starts."""
        return lambda: float(self._drive(paths, "drain", setting, jobs))

    def enqueue_rate(self, paths: Paths, setting: str, jobs: int) -> Callable[[], float]:
        return lambda: float(self._drive(paths, "enqueue", setting, jobs))

    def latencies(self, paths: Paths, setting: str, samples: int) -> list[float]:
        """Milliseconds from enqueue to the handler's first line, as it is set up by default."""
        return [float(each) for each in self._drive(paths, "latency", setting, samples)]

    def _drive(self, paths: Paths, mode: str, setting: str, count: int) -> Any:
        store = paths.path(self.name) / "peer.db"
        driver = HERE / f"{self.name}_driver.py"
        return self._output(driver, mode, str(store), setting, str(count))

    def _output(self, driver: Path, mode: str, *arguments: str) -> Any:
        """The value that a driver prints. It is asked to end, and to end its consumers, if this process is."""
        command = [str(self._python), str(driver), mode, *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                printed, told = process.communicate(timeout=300)
            finally:
                if process.poll() is None:
                    process.terminate()
        if process.returncode:
            raise RuntimeError(f"{self.name} {mode} failed: {told[-2000:]}")
        return json.loads(printed)


class Scheduler(NamedTuple):
    """A scheduler that the mode `cron` measures beside us."""

    name: str
    python: Path
    version: str
    script = HERE / "cron_peers.py"


def environment(folder: Path, package: str, *more: str) -> tuple[Path, str]:
    """The Python of a new virtual environment with these packages, and the version of the first that got there."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    quiet = ["--quiet", "--disable-pip-version-check"]
    subprocess.run([python, "-m", "pip", "install", *quiet, package, *more], check=True)
    name = re.split(r"[<\[]", package)[0]
    asked = f"import importlib.metadata as m; print(m.version({name!r}))"
    found = subprocess.run([python, "-c", asked], check=True, capture_output=True, text=True)
    return python, found.stdout.strip()


def huey(folder: Path) -> Peer:
    """Huey on SQLite, two worker processes."""
    python, version = environment(folder / "huey-env", "huey")
    notes = (
        "SqliteHuey in WAL mode, fsync=True (FULL) and fsync=False (OFF), consumer -k process -w 2 -n; tasks are "
        "deleted when taken, so lost with their worker, and a None is not stored; drain polls with -d 0.001 -m 0.01, "
        "latency as by default"
    )
    return Peer("huey", python, version, {"fsync": 10.0, "nofsync": 3.0}, notes)


def scheduler(name: str, folder: Path) -> Scheduler:
    """One of `SCHEDULERS`, in an environment of its own."""
    return Scheduler(name, *environment(folder / f"{name}-cron-env", *SCHEDULERS[name]))


def parallel() -> str:
    """GNU parallel. It is no package: whoever asks for it has installed it."""
    found = shutil.which("parallel")
    if found is None:
        raise SystemExit("GNU parallel is not installed (Debian, Ubuntu: apt install parallel)")
    return found


KNOWN: Mapping[str, Callable[[Path], Peer]] = {"huey": huey}
SCHEDULERS = {"apscheduler": ("apscheduler<4", "sqlalchemy"), "celery": ("celery",), "huey": ("huey",)}
"""Their packages."""

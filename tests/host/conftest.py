"""Processes as a worker has them, to be looked for and killed."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mpdispatch.host.kill import WORKER_VARIABLE
from tests.host import tree
from tests.pool.probes import pid_in

ROOT = Path(__file__).parents[2]
TOKEN = secrets.token_hex(8)
"""Its own for each process of the tests: leftovers are found by it."""
Spawn = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Starts a process as a worker is started; what is still there at the end is ended."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*kinds: str, tag: str = f"{TOKEN}.3", folder: Path = tmp_path) -> subprocess.Popen[bytes]:
        folder.mkdir(exist_ok=True)
        environment = {**os.environ, WORKER_VARIABLE: tag, "PYTHONPATH": str(ROOT)}
        started.append(
            subprocess.Popen(
                [sys.executable, tree.__file__, folder, *kinds], env=environment, start_new_session=True
            )
        )
        for name in ("worker", *(kind for kind in kinds if kind != "subreaper")):
            pid_in(folder / name)
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(path.read_text()), signal.SIGKILL)

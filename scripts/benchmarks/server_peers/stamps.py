"""What the handlers of all peers do, and how one says when it began. Imports nothing but the standard library."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

PATIENCE_S = 60.0
_VARIABLE = "BENCH_STAMPS"


def noop() -> None:
    """Nothing."""


def stamp(worker: int = 0) -> None:
    """Tells the bench when this line ran, and in which worker: the pid of this process, unless it is given."""
    now_ns = time.monotonic_ns()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.sendto(f"{now_ns} {worker or os.getpid()}".encode(), os.environ[_VARIABLE])


class Stamps:
    """Receives them. Its address goes to the consumers in their environment."""

    def __init__(self, folder: Path) -> None:
        path = str(folder / "stamps")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        os.environ[_VARIABLE] = path

    def next(self, timeout_s: float = PATIENCE_S) -> tuple[int, int]:
        """When (monotonic, in ns), and in which worker. Raises TimeoutError."""
        self._socket.settimeout(timeout_s)
        when, worker = self._socket.recv(100).split()
        return int(when), int(worker)

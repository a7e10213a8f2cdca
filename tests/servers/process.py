"""The handle of a running server: where it is, and what a test may do to it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

GUARD = Path(__file__).with_name("guard.py")
DISK = Path("/tmp")
"""Which every user reaches, and whose name is short enough for that of a socket."""
READY_S = 60.0
"""The longest that a server may take to answer or to end; the first start on a cold disk is the slowest."""


class Server:
    """A server that this process started."""

    def __init__(
        self,
        dsn: str,
        folder: Path,
        command: list[str],
        *,
        is_ready: Callable[[], bool],
        ends_by: signal.Signals,
        user: str = "",
    ) -> None:
        """Starts it and waits until it answers.

        `folder` is its own, removed at the end. `is_ready` tries to reach it. `ends_by` asks it to end in good order.
        """
        self.dsn, self.folder = dsn, folder
        self._is_ready, self._ends_by = is_ready, ends_by
        self._guard = subprocess.Popen(
            [sys.executable, str(GUARD), str(folder), user, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_ours(self) -> bool:
        """Whether a test may stop and kill it."""
        return True

    def log(self) -> str:
        """What it has said so far."""
        return (self.folder / "log").read_text(errors="replace")

    def kill(self) -> None:
        """Kill it and every process of its own at once, as the end of its machine would."""
        # Stopped, it can start no process while these are listed.
        processes = self._stopped()
        for each in processes:
            _send(each, signal.SIGKILL)
        self._wait_for_end(processes)

    def stop(self) -> None:
        """Have it do nothing until `cont()`; its connections stay open and silent."""
        self._stopped()

    def cont(self) -> None:
        """Let a stopped server go on."""
        for each in reversed(self._processes()):
            _send(each, signal.SIGCONT)

    def restart(self) -> None:
        """Start it again on its data, whether it was killed, stopped or runs, and wait until it answers."""
        if processes := self._processes():
            self.cont()
            _send(self._process, self._ends_by)
            self._wait_for_end(processes)
        self._start()

    def close(self) -> None:
        """End it, and remove all it kept."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(READY_S)
        assert self._guard.stdout is not None
        self._guard.stdout.close()

    def _start(self) -> None:
        assert self._guard.stdin is not None
        assert self._guard.stdout is not None
        self._guard.stdin.write("start\n")
        pid = int(self._guard.stdout.readline())
        try:
            self._process = psutil.Process(pid)
        except psutil.NoSuchProcess:
            raise self._ended_at_once() from None
        _wait_until(lambda: self._is_ready() or not self._process.is_running(), "it does not answer", self.log)
        if not self._process.is_running():
            raise self._ended_at_once()

    def _ended_at_once(self) -> RuntimeError:
        return RuntimeError(f"the server ended at once:\n{self.log()[-2000:]}")

    def _processes(self) -> list[psutil.Process]:
        """Its main process first; none if it has ended."""
        try:
            return [self._process, *self._process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _stopped(self) -> list[psutil.Process]:
        """All its processes, stopped."""
        self._have_stopped([self._process])
        processes = self._processes()
        self._have_stopped(processes[1:])
        return processes

    def _have_stopped(self, processes: list[psutil.Process]) -> None:
        for each in processes:
            _send(each, signal.SIGSTOP)
        # The kernel stops a process only when that process is about to run.
        _wait_until(lambda: all(map(_is_stopped, processes)), "it does not stop", self.log)

    def _wait_for_end(self, processes: list[psutil.Process]) -> None:
        _wait_until(lambda: not any(each.is_running() for each in processes), "it does not end", self.log)


class ForeignServer:
    """A server that somebody else started and named in the environment."""

    is_ours = False

    def __init__(self, dsn: str, variable: str) -> None:
        self.dsn, self._variable = dsn, variable

    def kill(self) -> None:
        """Skips the test, as all of these do."""
        self._skip()

    def stop(self) -> None:
        self._skip()

    def cont(self) -> None:
        self._skip()

    def restart(self) -> None:
        self._skip()

    def close(self) -> None: ...

    def _skip(self) -> None:
        pytest.skip(f"the server that {self._variable} names is not this test's to stop")


def quick_root() -> Path:
    """Where a server's files are in memory, so that no write waits for a disk; a folder on a disk if there is no room."""
    memory = Path("/dev/shm")
    has_room = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**29
    return memory if has_room else DISK


def free_port(address: str) -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as listener:
        listener.bind((address, 0))
        return int(listener.getsockname()[1])


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _is_stopped(process: psutil.Process) -> bool:
    try:
        return bool(process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE))
    except psutil.NoSuchProcess:
        return True


def _wait_until(condition: Callable[[], bool], failure: str, log: Callable[[], str]) -> None:
    deadline = time.monotonic() + READY_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{failure} within {READY_S:.0f} s:\n{log()[-2000:]}")
        time.sleep(0.01)

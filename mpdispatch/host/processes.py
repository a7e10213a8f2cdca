"""Which process: a pid with its start time, and the namespace it counts in. Any process.

Whoever has not been seen is not dead: what cannot be known raises, and is never taken for an end.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import NamedTuple

__all__ = ["ProcessId", "pid_namespace", "process_id", "process_start", "process_state", "start_at"]


class ProcessId(NamedTuple):
    """A process for good: a pid alone is reused, a pid with its start time is not."""

    pid: int
    start: int
    """Clock ticks after boot (Linux) or microseconds since the epoch (elsewhere)."""


@functools.cache
def pid_namespace() -> str:
    """Pids compare only between processes that report the same value here."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return "host"


def process_start(pid: int) -> int | None:
    """When the process with this pid started, or None if there is none (a zombie counts as none).

    Raises OSError where that cannot be known: this process has no descriptor left, or may not see the other. Who has not
    been seen is not dead.
    """
    if sys.platform == "linux":
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # The command name may hold spaces and parentheses: split after the last one.
                fields = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time() * 1e6)
    except psutil.Error:
        return None


def start_at(boot_us: int) -> int:
    """What `process_start` says of a process that starts at this moment (boottime µs). Linux.

    >>> start_at(2_000_000) == 2 * os.sysconf("SC_CLK_TCK")
    True
    """
    return boot_us * os.sysconf("SC_CLK_TCK") // 1_000_000


def process_state(pid: int) -> str | None:
    """The kernel's letter for what a process does (`T` = stopped), or None if there is none or no /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except OSError:
        return None


def process_id(pid: int | None = None) -> ProcessId:
    """This process (or the living one with `pid`), with its start time."""
    pid = os.getpid() if pid is None else pid
    start = process_start(pid)
    if start is None:
        raise ProcessLookupError(f"no process {pid}")
    return ProcessId(pid, start)

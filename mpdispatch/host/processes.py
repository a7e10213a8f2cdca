"""Identifies a process: a pid with its start time, and its pid namespace. Any process.

An unknown state raises an error and never counts as the process's end.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import NamedTuple


class ProcessId(NamedTuple):
    """Identifies one process: a pid is reused, a pid with its start time is not."""

    pid: int
    start: int
    """Clock ticks after boot (Linux) or microseconds since the epoch (elsewhere)."""


@functools.cache
def pid_namespace() -> str:
    """The pid namespace. Pids are comparable only between processes with the same value."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return "host"


def process_start(pid: int) -> int | None:
    """When the process with this pid started, or None if there is none (a zombie counts as none).

    Raises OSError if that is unknown: this process has no descriptor left, or may not see the other.
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
    """The value of `process_start` for a process that starts at this moment (boottime µs). Linux.

    >>> start_at(2_000_000) == 2 * os.sysconf("SC_CLK_TCK")
    True
    """
    return boot_us * os.sysconf("SC_CLK_TCK") // 1_000_000


def process_state(pid: int) -> str | None:
    """The kernel's letter for the process's state (`T` = stopped); None without such a process or without /proc."""
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

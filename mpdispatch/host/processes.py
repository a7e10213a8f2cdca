"""Identifies processes: a pid with its start time, and its pid namespace; and finds all of this machine. Any process.

An unknown state raises an error and never counts as the process's end.
"""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
from collections.abc import Mapping
from typing import NamedTuple

_SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


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
                fields = _fields(file.read())
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
            return _fields(file.read())[0].decode()
    except OSError:
        return None


def status_of(name: str, pid: int | None = None) -> str | None:
    """The first word of this line of the status of a process (None: of this one); None if there is none.

    >>> status_of("Pid") in (str(os.getpid()), None)
    True
    """
    try:
        with open(f"/proc/{pid or 'self'}/status", encoding="utf-8", errors="replace") as file:
            return next(line.split()[1] for line in file if line.startswith(f"{name}:"))
    except (OSError, StopIteration):
        return None


def _fields(stat: bytes) -> list[bytes]:
    """The fields of /proc/PID/stat from the state on. The name before it may hold spaces and parentheses."""
    return stat.rpartition(b")")[2].split()


def signal_name(number: int) -> str:
    """
    >>> signal_name(9), signal_name(40)
    ('SIGKILL', 'SIG40')
    """
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"  # a real-time signal


def process_id(pid: int | None = None) -> ProcessId:
    """This process (or the living one with `pid`), with its start time."""
    pid = os.getpid() if pid is None else pid
    start = process_start(pid)
    if start is None:
        raise ProcessLookupError(f"no process {pid}")
    return ProcessId(pid, start)


# ---------------------------------------------------------------- all processes (Linux)


class Seen(NamedTuple):
    start: int
    """As in ProcessId."""
    parent: int
    session: int


def process_table(*, zombies: bool = False) -> dict[int, Seen]:
    """By pid: every process; with `zombies` also those that have ended and were not reaped.

    It costs some 15 µs per process, so read it once to find several. Raises OSError if no descriptor is left.
    """
    found: dict[int, Seen] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := read_proc(f"/proc/{entry}/stat")):
            fields = _fields(stat)
            if zombies or fields[0] not in (b"Z", b"X"):
                found[int(entry)] = Seen(int(fields[19]), int(fields[1]), int(fields[3]))
    return found


def children_of(table: Mapping[int, Seen]) -> dict[int, list[int]]:
    """By pid: its children."""
    children: dict[int, list[int]] = {}
    for pid, seen in table.items():
        children.setdefault(seen.parent, []).append(pid)
    return children


def read_proc(path: str) -> bytes:
    """Content of the file; empty if the process is gone or hidden. Raises OSError if no descriptor is left."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        if error.errno in _SHORT:
            raise
        return b""

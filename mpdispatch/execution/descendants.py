"""Finds and ends processes that a job left behind. Runs in the worker process.

On Linux the worker is a subreaper (PR_SET_CHILD_SUBREAPER): every descendant becomes a child of the worker when its
parent dies. So killing children until there are none reaches every generation, daemons included. It signals only pids
that are ours to reap, which cannot have been reused.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

# Bound here, because a job may replace these functions.
from os import kill, listdir, waitid, waitpid
from time import monotonic

from mpdispatch.clock import sleep

_PAUSE_S = 0.001


def has_children() -> bool:
    """Whether this process has a child, running or not yet reaped. One system call."""
    try:
        waitid(os.P_ALL, 0, os.WNOHANG | os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def kill_children(deadline_s: float = 2.0) -> int:
    """Kill and reap every descendant; gives how many were reaped.

    Blocks until there are none, at most `deadline_s` seconds. If a process is stuck in the kernel, or a fork bomb is
    faster than us, `has_children()` stays True, and the worker must end.
    """
    until_s = monotonic() + deadline_s
    reaped = _reap()
    while has_children() and monotonic() < until_s:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(pid, signal.SIGKILL)
        found = _reap()
        reaped += found
        if not found:
            sleep(_PAUSE_S)
    return reaped


def _reap() -> int:
    """Reap the children that have ended; gives how many."""
    count = 0
    with contextlib.suppress(ChildProcessError):
        while waitpid(-1, os.WNOHANG)[0]:
            count += 1
    return count


def _children() -> list[int]:
    """The pids of the children; without a subreaper, of all descendants."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return _children_in_proc()
    import psutil

    return [process.pid for process in psutil.Process().children(recursive=sys.platform != "linux")]


def _children_in_proc() -> list[int]:
    # The kernel lists children by the thread that made them.
    pids: list[int] = []
    for task in listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children", "rb") as file:
            pids += map(int, file.read().split())
    return pids

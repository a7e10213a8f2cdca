"""Processes that a job left behind: is there any, and an end to all of them. Runs in the worker process.

On Linux the worker is a subreaper (PR_SET_CHILD_SUBREAPER): whatever a descendant does, when its parent dies
it becomes a child of the worker. So killing children until there are none reaches every generation, daemons
included, and only ever signals a pid that is ours to reap, so cannot have been reused.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

# Bound here: a job may have put something else in their place.
from os import kill, listdir, waitid, waitpid
from time import monotonic, sleep

__all__ = ["has_children", "kill_children"]

_PAUSE_S = 0.001


def has_children() -> bool:
    """Whether this process has any child, running or not reaped yet. One system call."""
    try:
        waitid(os.P_ALL, 0, os.WNOHANG | os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def kill_children(deadline_s: float = 2.0) -> int:
    """Kill and reap every descendant; gives how many were reaped.

    Blocks until there are none, at most `deadline_s` seconds: a process stuck in the kernel, or a fork bomb
    faster than us, is left (`has_children()` stays True), and the worker must end.
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
    """Reap the children that have ended."""
    count = 0
    with contextlib.suppress(ChildProcessError):
        while waitpid(-1, os.WNOHANG)[0]:
            count += 1
    return count


def _children() -> list[int]:
    """Pids of the children (where there is no subreaper: of all descendants)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return _children_in_proc()
    import psutil

    return [process.pid for process in psutil.Process().children(recursive=sys.platform != "linux")]


def _children_in_proc() -> list[int]:
    # Children belong to the thread that made them.
    pids: list[int] = []
    for task in listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children", "rb") as file:
            pids += map(int, file.read().split())
    return pids

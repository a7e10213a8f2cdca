"""Ending processes for good: a worker, its group, everything it started. Runs in the supervisor.

A pid alone never gets a signal: pids are reused. We hold a pidfd, or compare start times first.
Descendants are found three ways, because each misses some: the tree below the worker (it is a subreaper, so daemonised
grandchildren stay in it while it lives), its session, and the tag its environment carries to everything exec'ed from it.
All of this is for our own workers; what others left is more carefully looked at (see `leftovers`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator

from mpdispatch.host.processes import ProcessId, process_start

__all__ = [
    "WORKER_VARIABLE",
    "descendants",
    "is_our_user",
    "is_running",
    "kill_process",
    "kill_session_leftovers",
    "kill_tree",
    "reap_orphans",
]

WORKER_VARIABLE = "MPDISPATCH_WORKER"
"""Environment variable of a worker and of all it starts: names its supervisor's registration and its place."""


def _start_of(pid: int) -> int | None:
    """When it started; None: it is gone, or it is somebody else's, which the system hides (hidepid)."""
    try:
        return process_start(pid)
    except PermissionError:
        return None


def is_running(process: ProcessId) -> bool:
    """Whether this very process is there. What the system hides is not: ours are not hidden from us.

    Raises OSError: no descriptor left to look.
    """
    return _start_of(process.pid) == process.start


def kill_process(process: ProcessId) -> bool:
    """SIGKILL exactly this process; False if it is gone already, or somebody else's.

    Raises OSError: no descriptor left to make sure of it.
    """
    if sys.platform != "linux":
        if not is_running(process):
            return False
        return _signal_pid(process.pid)
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        # Compare after opening: from here on the pidfd means one process.
        if not is_running(process):
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(descriptor)
    return True


def _signal_pid(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def descendants(pid: int) -> list[ProcessId]:
    """Every process below this one, as of now."""
    import psutil  # 1.4 MiB and 30 ms that only who kills need pay

    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    found = ((child.pid, _start_of(child.pid)) for child in children)
    return [ProcessId(pid, start) for pid, start in found if start is not None]


NONE_LEFT = range(0)


def kill_tree(worker: ProcessId, *, left: range = NONE_LEFT) -> None:
    """SIGKILL a worker, its process group and its descendants. It works on stopped processes too.

    Descendants that started within `left` are spared: earlier jobs left them behind, and may.

    Raises OSError: no descriptor left to see what is to be killed.
    """
    below = descendants(worker.pid)
    # Looked at after the list was made: if it is not the worker now, those may be the children of a stranger.
    if not is_running(worker):
        return
    # The worker leads its own session and group; its pid cannot be anybody else's while it is not reaped.
    if not left:  # Whom we spare may be in the group.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.pid, signal.SIGKILL)
    kill_process(worker)
    for process in below:
        if process.start not in left:
            kill_process(process)


def _processes() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def _session(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[3])
    except OSError:
        return None


def _environment(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""


def is_our_user(pid: int) -> bool:
    """Whether its real user is ours: a program that runs as root for somebody is that somebody's."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            (line,) = (line for line in file if line.startswith(b"Uid:"))
    except (OSError, ValueError):
        return False
    return int(line.split()[1]) == os.geteuid()


def kill_session_leftovers(
    worker: ProcessId, tag: str, *, spare: Iterable[int] = (), left: range = NONE_LEFT
) -> int:
    """SIGKILL what a dead worker left running; gives how many. Linux only (0 elsewhere).

    `tag` is what the value of its WORKER_VARIABLE begins with (end it with NUL to mean all of it). Members of
    its session count as its own if they are younger than it and no living process leads that session: its id
    cannot be reused while it has members. By the tag alone nobody is ended who is not of our user. Those that
    started within `left` are spared, as in `kill_tree`.
    """
    if sys.platform != "linux":
        return 0
    needle = f"\0{WORKER_VARIABLE}={tag}".encode()
    spared = {*spare, os.getpid(), worker.pid}
    leader_lives = _start_of(worker.pid) is not None
    killed = 0
    for pid in _processes():
        if pid in spared or (start := _start_of(pid)) is None or start < worker.start or start in left:
            continue
        in_session = not leader_lives and _session(pid) == worker.pid
        if in_session or (tag and needle in b"\0" + _environment(pid) and is_our_user(pid)):
            killed += kill_process(ProcessId(pid, start))
    return killed


def reap_orphans(keep: Iterable[int], *, kills: bool = True) -> int:
    """As a subreaper: end and reap every child of this process that is not in `keep`; gives how many were ended.

    Without `kills` only those are reaped that have ended by themselves.

    Those it cannot see, for want of a descriptor, are left to the next time.

    Only for a process all of whose children are ours or orphans of ours.
    """
    kept = set(keep)
    killed = 0
    try:
        import psutil  # see `descendants`

        for child in psutil.Process().children():
            if child.pid in kept:
                continue
            if kills and (start := process_start(child.pid)) is not None:
                killed += kill_process(ProcessId(child.pid, start))
            with contextlib.suppress(ChildProcessError):  # reaped by somebody else in the meantime
                os.waitpid(child.pid, os.WNOHANG)
    except (OSError, ImportError):
        return killed
    return killed

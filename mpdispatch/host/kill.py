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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from mpdispatch.host.process_table import Seen, children_of, process_table, read_proc
from mpdispatch.host.processes import ProcessId, process_start

__all__ = [
    "NONE_LEFT",
    "WORKER_VARIABLE",
    "DeadWorker",
    "descendants",
    "is_our_user",
    "is_running",
    "kill_process",
    "kill_session_leftovers",
    "kill_tree",
    "kill_trees",
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
    """Every process below this one, as of now. Raises OSError: no descriptor left to look."""
    return _below([pid])[pid]


def _below(pids: Iterable[int]) -> dict[int, list[ProcessId]]:
    """By pid: every process below it, by one look for all of them. Raises OSError."""
    if sys.platform != "linux":
        return {pid: _below_by_psutil(pid) for pid in pids}
    table = process_table()
    children = children_of(table)
    return {pid: list(_walk(pid, table, children)) for pid in pids}


def _walk(pid: int, table: Mapping[int, Seen], children: Mapping[int, list[int]]) -> Iterator[ProcessId]:
    waiting = list(children.get(pid, ()))
    while waiting:
        each = waiting.pop()
        yield ProcessId(each, table[each].start)
        waiting += children.get(each, ())


def _below_by_psutil(pid: int) -> list[ProcessId]:
    import psutil  # 1.4 MiB and 30 ms that only who kills need pay

    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    found = ((child.pid, _start_of(child.pid)) for child in children)
    return [ProcessId(pid, start) for pid, start in found if start is not None]


NONE_LEFT = range(0)


def kill_tree(worker: ProcessId, *, left: range = NONE_LEFT) -> None:
    """As `kill_trees`, of one."""
    kill_trees([(worker, left)])


def kill_trees(workers: Sequence[tuple[ProcessId, range]]) -> None:
    """SIGKILL workers, their process groups and their descendants. It works on stopped processes too.

    Of each worker, descendants that started within the range beside it are spared: earlier jobs left them behind, and may.

    Raises OSError: no descriptor left to see what is to be killed.
    """
    below = _below(worker.pid for worker, _ in workers)
    for worker, left in workers:
        # Looked at after the list was made: if it is not the worker now, those may be the children of a stranger.
        if not is_running(worker):
            continue
        # The worker leads its own session and group; its pid cannot be anybody else's while it is not reaped.
        if not left:  # Whom we spare may be in the group.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(worker.pid, signal.SIGKILL)
        kill_process(worker)
        for process in below[worker.pid]:
            if process.start not in left:
                kill_process(process)


def is_our_user(pid: int) -> bool:
    """Whether its real user is ours: a program that runs as root for somebody is that somebody's."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            (line,) = (line for line in file if line.startswith(b"Uid:"))
    except (OSError, ValueError):
        return False
    return int(line.split()[1]) == os.geteuid()


class DeadWorker(NamedTuple):
    """A worker that has ended, and how to know what it left running."""

    process: ProcessId
    tag: str
    """What the value of its WORKER_VARIABLE begins with (ended with NUL: all of it); empty: not known."""
    left: range = NONE_LEFT
    """When those started that are spared."""


def kill_session_leftovers(workers: Sequence[DeadWorker], *, spare: Iterable[int] = ()) -> int:
    """SIGKILL what dead workers left running; gives how many. One look for all of them. Linux only (0 elsewhere).

    Members of a worker's session count as its own if they are younger than it and no living process leads that session:
    its id cannot be reused while it has members. By the tag alone nobody is ended who is not of our user.

    Raises OSError: no descriptor left to look.
    """
    if sys.platform != "linux" or not workers:
        return 0
    table = process_table()
    spared = {*spare, os.getpid(), *(worker.process.pid for worker in workers)}
    oldest = min(worker.process.start for worker in workers)
    killed = 0
    for pid, seen in table.items():
        if pid in spared or seen.start < oldest:
            continue
        environment: bytes | None = None
        for worker in workers:
            if seen.start < worker.process.start or seen.start in worker.left:
                continue
            is_its = seen.session == worker.process.pid and worker.process.pid not in table
            if not is_its and worker.tag:
                if environment is None:
                    environment = b"\0" + read_proc(f"/proc/{pid}/environ")
                is_its = f"\0{WORKER_VARIABLE}={worker.tag}".encode() in environment and is_our_user(pid)
            if is_its:
                killed += kill_process(ProcessId(pid, seen.start))
                break
    return killed


def reap_orphans(keep: Iterable[int], *, kills: bool = True) -> int:
    """As a subreaper: end and reap every child of this process that is not in `keep`; gives how many were ended.

    Without `kills` only those are reaped that have ended by themselves.

    Those it cannot see, for want of a descriptor, are left to the next time.

    Only for a process all of whose children are ours or orphans of ours. Linux only (0 elsewhere).
    """
    if sys.platform != "linux":
        return 0  # nobody else's children become ours there
    kept, ours = set(keep), os.getpid()
    killed = 0
    with contextlib.suppress(OSError):
        for pid, seen in process_table(zombies=True).items():
            if seen.parent != ours or pid in kept:
                continue
            if kills:
                killed += kill_process(ProcessId(pid, seen.start))
            with contextlib.suppress(ChildProcessError):  # reaped by somebody else in the meantime
                os.waitpid(pid, os.WNOHANG)
    return killed

"""Kills a worker, its process group and everything it started. Runs in the supervisor.

Pids are reused, so a signal is sent through a pidfd or after comparing start times.
Descendants are found in three ways, because each misses some: the tree below the worker (a subreaper, so daemonised
grandchildren stay in the tree while it lives), its session, and the tag that everything exec'ed from it inherits in its
environment. This is for our own workers; `leftovers` handles those of other supervisors, with more checks.
Each function raises OSError if no descriptor is left to find the processes, unless it says otherwise.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from mpdispatch.host.processes import (
    ProcessId,
    Seen,
    children_of,
    process_start,
    process_table,
    read_proc,
    status_of,
)

WORKER_VARIABLE = "MPDISPATCH_WORKER"
"""Environment variable of a worker and of all it starts. Its value, the tag, is the token of the supervisor's registration,
a dot and the number of the worker."""


def _start_of(pid: int) -> int | None:
    """When the process started; None if it is gone or another user's and hidden by the system (hidepid)."""
    try:
        return process_start(pid)
    except PermissionError:
        return None


def is_running(process: ProcessId) -> bool:
    """Whether exactly this process runs. A hidden process counts as not running: our own are never hidden from us."""
    return _start_of(process.pid) == process.start


def kill_process(process: ProcessId) -> bool:
    """SIGKILL exactly this process; False if it is gone already or belongs to another user."""
    try:
        if sys.platform != "linux":
            if is_running(process):
                os.kill(process.pid, signal.SIGKILL)
                return True
            return False
        descriptor = os.pidfd_open(process.pid)
        try:
            # Compare after opening: from here on the pidfd refers to one process.
            if is_running(process):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                return True
            return False
        finally:
            os.close(descriptor)
    except (ProcessLookupError, PermissionError):
        return False


def _below(pids: Iterable[int]) -> dict[int, list[ProcessId]]:
    """By pid: every process below it. Reads the process table once."""
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
    import psutil  # 1.4 MiB and 30 ms, only needed for a kill

    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    found = ((child.pid, _start_of(child.pid)) for child in children)
    return [ProcessId(pid, start) for pid, start in found if start is not None]


NONE_LEFT = range(0)


def kill_tree(worker: ProcessId) -> None:
    """`kill_trees` for one worker that leaves nothing."""
    kill_trees([(worker, NONE_LEFT)])


def kill_trees(workers: Sequence[tuple[ProcessId, range]]) -> None:
    """SIGKILL workers, their process groups and their descendants. It works on stopped processes too.

    Descendants that started within the range given with their worker are spared: earlier jobs may leave processes.
    """
    below = _below(worker.pid for worker, _ in workers)
    for worker, left in workers:
        # Check after making the list: if the pid was reused, those may be the children of an unrelated process.
        if not is_running(worker):
            continue
        # The worker leads its own session and group; its pid is not reused until it is reaped.
        if not left:  # The group may contain spared processes.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(worker.pid, signal.SIGKILL)
        kill_process(worker)
        for process in below[worker.pid]:
            if process.start not in left:
                kill_process(process)


def is_our_user(pid: int) -> bool:
    """Whether the process has our real user: a setuid program belongs to the user who runs it."""
    return status_of("Uid", pid) == str(os.geteuid())


class DeadWorker(NamedTuple):
    """A worker that has ended, and how to find the processes it left running."""

    process: ProcessId
    tag: str
    """Prefix of its WORKER_VARIABLE's value (with a final NUL: the whole value); empty if unknown."""
    left: range = NONE_LEFT
    """Start times of processes to spare."""


def kill_session_leftovers(workers: Sequence[DeadWorker]) -> int:
    """SIGKILL what dead workers left running. Returns the count. Linux only (0 elsewhere).

    Reads the process table once. Members of a worker's session are killed if they are younger than the worker and no
    living process leads that session: a session's id is not reused while it has members. Processes found only by
    the tag are killed only if they run as our user.
    """
    if sys.platform != "linux" or not workers:
        return 0
    table = process_table()
    spared = {os.getpid(), *(worker.process.pid for worker in workers)}
    oldest = min(worker.process.start for worker in workers)
    leaders = {worker.process.pid: worker for worker in workers if worker.process.pid not in table}
    killed = 0
    for pid, seen in table.items():
        if pid in spared or seen.start < oldest:
            continue
        if _is_left_by(workers, leaders.get(seen.session), pid, seen):
            killed += kill_process(ProcessId(pid, seen.start))
    return killed


def _is_left_by(workers: Sequence[DeadWorker], leader: DeadWorker | None, pid: int, seen: Seen) -> bool:
    its = [each for each in workers if seen.start >= each.process.start and seen.start not in each.left]
    return leader in its or has_tag(pid, [each.tag for each in its if each.tag])


def has_tag(pid: int, tags: Sequence[str]) -> bool:
    """Whether the process has our user, and a WORKER_VARIABLE that begins with one of these."""
    if not tags:
        return False
    environment = b"\0" + read_proc(f"/proc/{pid}/environ")
    return any(f"\0{WORKER_VARIABLE}={tag}".encode() in environment for tag in tags) and is_our_user(pid)


def reap_orphans(keep: Iterable[int], *, kills: bool = True) -> int:
    """As a subreaper: kill and reap every child of this process that is not in `keep`. Returns the number killed.

    Without `kills`, only reaps children that have ended by themselves. Without a free descriptor, leaves the
    rest to the next call.

    Only for a process whose children are all ours or orphans of ours. Linux only (0 elsewhere).
    """
    if sys.platform != "linux":
        return 0  # no subreapers there: orphans do not become our children
    kept, ours = set(keep), os.getpid()
    killed = 0
    with contextlib.suppress(OSError):
        for pid, seen in process_table(zombies=True).items():
            if seen.parent != ours or pid in kept:
                continue
            if kills:
                killed += kill_process(ProcessId(pid, seen.start))
            with contextlib.suppress(ChildProcessError):  # already reaped elsewhere
                os.waitpid(pid, os.WNOHANG)
    return killed

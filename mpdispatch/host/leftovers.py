"""Kills what a dead or stopped supervisor left running. Linux; elsewhere as `kill`. Runs in the rescuer.

A rescuer may be root, and another user may have forged a file or a variable. So a process is killed only with proof:

- Its environment holds the supervisor's token, which nobody can guess, and its real user is ours.
- Or the journal names it and it has the journal mapped. The file is private to the supervisor, so only a worker can map
  it. This finds workers that overwrote their environment (`setproctitle`) or changed their user.
- It is in the session of such a process or below it, as any user: only descendants get there. This finds children that
  cleared their environment or dropped their privileges.
- It is in the session of a worker that is gone, and has our user. No living process leads that session, and its id is
  not reused while it has members.

A process that has dropped its privileges *and* left both session and tree of its worker is not killed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from mpdispatch.host.kill import has_tag, is_our_user, is_running, kill_process, kill_tree
from mpdispatch.host.processes import ProcessId, Seen, children_of, process_table, read_proc


class JournalNames(NamedTuple):
    """The workers named in a start journal that only its supervisor can have written."""

    workers: Collection[ProcessId]
    identity: tuple[int, int]
    """(device, inode) of the file."""


def kill_leftovers(token: str, *, since: int, journal: JournalNames | None) -> int:
    """SIGKILL what is left of a supervisor that started at `since` (as in ProcessId). Returns the number killed.

    `token`: the part of its workers' WORKER_VARIABLE before the dot; `""` if unknown. Call this until it returns 0: a
    worker may have been starting another process.

    Raises OSError if no descriptor is left.
    """
    workers = journal.workers if journal is not None else ()
    if sys.platform != "linux":
        running = [worker for worker in workers if is_running(worker)]
        for worker in running:
            kill_tree(worker)
        return len(running)
    seen = process_table()
    condemned = _with_families(_roots(token, since, journal, seen), seen) | _orphans(workers, seen)
    return sum(kill_process(ProcessId(pid, seen[pid].start)) for pid in condemned)


def _roots(token: str, since: int, journal: JournalNames | None, seen: Mapping[int, Seen]) -> set[int]:
    """The processes that carry the token, and the workers in the journal that have it mapped."""
    tags = [f"{token}."] if token else []
    roots = {pid for pid, found in seen.items() if found.start >= since and has_tag(pid, tags)}
    if journal is not None:
        named = {pid for pid, start in journal.workers if pid in seen and seen[pid].start == start}
        roots |= {pid for pid in named if _maps(pid, journal.identity)}
    return roots - {os.getpid()}


def _maps(pid: int, identity: tuple[int, int]) -> bool:
    """Whether the process has this file mapped. Lines read `7f…-7f… rw-s 00001000 fe:00 5678   /path`."""
    device, inode = identity
    wanted = [f"{os.major(device):02x}:{os.minor(device):02x}".encode(), str(inode).encode()]
    return any(line.split()[3:5] == wanted for line in read_proc(f"/proc/{pid}/maps").splitlines())


def _with_families(roots: set[int], seen: dict[int, Seen]) -> set[int]:
    """The roots, all processes below them, and their sessions; without this process and what is only below it."""
    ours = seen.get(os.getpid())
    # Session 0: the session of a process from another pid namespace.
    shunned = {0} if ours is None else {0, ours.session}
    children = children_of(seen)
    members = dict[int, list[int]]()
    for pid, found in seen.items():
        members.setdefault(found.session, []).append(pid)
    family, waiting = set[int](), list(roots)
    while waiting:
        pid = waiting.pop()
        if pid in family or pid == os.getpid():
            continue
        family.add(pid)
        waiting += children.get(pid, ())
        if seen[pid].session not in shunned:
            waiting += members[seen[pid].session]
    return family


def _orphans(workers: Iterable[ProcessId], seen: dict[int, Seen]) -> set[int]:
    """Members of the sessions of workers that are gone."""
    gone = {worker.pid: worker for worker in workers if worker.pid not in seen}
    if not gone:
        return set()
    return {
        pid
        for pid, found in seen.items()
        if (leader := gone.get(found.session)) is not None and found.start >= leader.start and is_our_user(pid)
    }

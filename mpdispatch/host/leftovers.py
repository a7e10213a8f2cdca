"""What a supervisor that is dead or stopped left running, and its end. Linux; elsewhere as `kill`. Runs in the rescuer.

Whose a process is must be proved, for a rescuer may be root and a file or a variable somebody else's doing:

- It shows the supervisor's token in its environment, and its real user is ours. Nobody can guess a token.
- Or the journal names it, and it has the journal mapped. That file is its supervisor's and private, so only a worker can:
  one that has overwritten its environment (`setproctitle`), or has become another user since.
- With these their sessions and all below them, whatever user they are now: nobody gets in there but by being started by
  one of them. So ends a child that has cleared its environment, or dropped its privileges.
- Of a worker that is gone: what is in its session and has our user. No living process leads that session, and its id
  cannot be used anew while it has members.

What has dropped its privileges *and* left the session and the tree of its worker is not ended.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable
from typing import NamedTuple

from mpdispatch.host.kill import WORKER_VARIABLE, is_our_user, is_running, kill_process, kill_tree
from mpdispatch.host.process_table import Seen, children_of, process_table, read_proc
from mpdispatch.host.processes import ProcessId

__all__ = ["JournalNames", "kill_leftovers"]


class JournalNames(NamedTuple):
    """What a start journal that is surely its supervisor's says of its workers."""

    workers: Collection[ProcessId]
    identity: tuple[int, int]
    """(device, inode) of the file."""


def kill_leftovers(token: str, *, since: int, journal: JournalNames | None) -> int:
    """SIGKILL what is left of a supervisor that started at `since` (as in ProcessId); gives how many there still were.

    `token`: what the mark of its workers begins with, up to the dot; `""`: not known. To be called until it finds none: a
    worker may have been starting another process.

    Raises OSError: no descriptor left to look.
    """
    workers = journal.workers if journal is not None else ()
    if sys.platform != "linux":
        running = [worker for worker in workers if is_running(worker)]
        for worker in running:
            kill_tree(worker)
        return len(running)
    seen = process_table()
    roots = {
        pid
        for pid, found in seen.items()
        if pid != os.getpid()
        and (
            (token and found.start >= since and _is_marked(pid, token))
            or (journal is not None and ProcessId(pid, found.start) in workers and _maps(pid, journal.identity))
        )
    }
    condemned = _with_families(roots, seen) | _orphans(workers, seen)
    return sum(kill_process(ProcessId(pid, seen[pid].start)) for pid in condemned)


def _is_marked(pid: int, token: str) -> bool:
    needle = f"\0{WORKER_VARIABLE}={token}.".encode()
    return needle in b"\0" + read_proc(f"/proc/{pid}/environ") and is_our_user(pid)


def _maps(pid: int, identity: tuple[int, int]) -> bool:
    """Whether it has this file mapped. Lines read `7f…-7f… rw-s 00001000 fe:00 5678   /path`."""
    device, inode = identity
    wanted = [f"{os.major(device):02x}:{os.minor(device):02x}".encode(), str(inode).encode()]
    return any(line.split()[3:5] == wanted for line in read_proc(f"/proc/{pid}/maps").splitlines())


def _with_families(roots: set[int], seen: dict[int, Seen]) -> set[int]:
    """These, all below them, and their sessions; but not us, nor what is only below us."""
    ours = seen.get(os.getpid())
    # 0: of another pid namespace, as far as one can see from here.
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

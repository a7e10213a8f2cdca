"""Finds what makes a fork of this process unsafe. Runs in a worker and in the zygote."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Set

from mpdispatch.execution.descendants import has_children

Descriptor = tuple[int, str]
"""The number of a descriptor, and the kernel's name of what it is open on."""


def open_descriptors() -> frozenset[Descriptor]:
    """The descriptors that are open now. On Linux only; elsewhere none."""
    found = set()
    if sys.platform == "linux":
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
    return frozenset(found)


def fork_hazards(before: Set[Descriptor]) -> list[str]:
    """Threads, processes and connections made by the import of the app, which do not survive a fork.

    `before` are the descriptors that were open before. Two workers that share a connection to a server or a process, or
    an event loop, read each other's answers.
    """
    if sys.platform != "linux":
        return ["only Linux has a zygote"]
    hazards = []
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        hazards.append(f"{threads} threads")
    if has_children():
        hazards.append("processes it has started")
    for number, what in sorted(open_descriptors()):
        is_new = (number, what) not in before
        # These have only a kernel's name: an event loop, its wake-up, a watch on files.
        if is_new and what.startswith(("socket:", "pipe:", "anon_inode:")):
            hazards.append(f"{what} is open")
        with contextlib.suppress(OSError):
            if what.endswith(("-wal", "-shm", "-journal")) or _is_sqlite(number, what):
                hazards.append(f"{what} is open")
    return hazards


def _is_sqlite(descriptor: int, path: str) -> bool:
    if not path.startswith("/") or not os.path.isfile(path):
        return False
    # By pread, which leaves the file position of the descriptor's owner alone.
    return os.pread(descriptor, 15, 0) == b"SQLite format 3"

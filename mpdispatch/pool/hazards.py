"""Whether this process could be forked safely. Runs in a worker and in the zygote."""

from __future__ import annotations

import contextlib
import os
import sys

__all__ = ["fork_hazards"]


def fork_hazards() -> list[str]:
    """What would make a fork of this process unsafe: threads, descriptors on SQLite files."""
    if sys.platform != "linux":
        return ["only Linux has a zygote"]
    hazards = []
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        hazards.append(f"{threads} threads")
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            path = os.readlink(f"/proc/self/fd/{name}")
            if path.endswith(("-wal", "-shm", "-journal")) or _is_sqlite(int(name), path):
                hazards.append(f"{path} is open")
    return hazards


def _is_sqlite(descriptor: int, path: str) -> bool:
    if not path.startswith("/") or not os.path.isfile(path):
        return False
    # By a descriptor of our own offset: pread leaves the file position of its owner alone.
    return os.pread(descriptor, 15, 0) == b"SQLite format 3"

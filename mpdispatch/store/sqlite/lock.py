"""The write lock beside the database: one `flock` that every write transaction and checkpoint of ours holds.

It costs two system calls and pays for itself: nobody sleeps in SQLite's busy handler (4 writing processes: 6.4k
instead of 3.5k transactions/s), and no checkpoint of ours races a commit of ours (see `mpdispatch.sqlite3`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import threading
import time
import weakref
from pathlib import Path
from typing import Protocol

__all__ = ["FileLock", "MemoryLock", "Pauses", "WriteLock", "open_beside"]


class Pauses:
    """Growing, jittered pauses between two tries: 0.1 ms to 2 ms."""

    __slots__ = ("_next_s",)

    def __init__(self) -> None:
        self._next_s = 0.0001

    def sleep(self, until: float) -> bool:
        """Wait a little; False (at once) if `until`, a monotonic time, is past."""
        left = until - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(left, self._next_s * random.uniform(0.5, 1.5)))
        self._next_s = min(self._next_s * 1.5, 0.002)
        return True


class WriteLock(Protocol):
    def acquire(self, until: float) -> bool:
        """Take it; False if another has it and `until` (monotonic) is past. One try at least."""
        ...

    def release(self) -> None: ...

    def close(self) -> None: ...


def open_beside(folder: Path, name: str, flags: int) -> int:
    """Open a file of ours in the store's side folder (made if missing), never through a symlink."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
    finally:
        os.close(directory)


class FileLock:
    """`flock` on a file of its own descriptor, so it excludes threads as well as processes."""

    __slots__ = ("__weakref__", "_fd", "_folder", "_name")

    def __init__(self, folder: Path, name: str = "lock") -> None:
        self._folder, self._name = folder, name
        self._fd = -1
        _all.add(self)

    def acquire(self, until: float) -> bool:
        pauses = Pauses()
        while True:
            if self._fd < 0:
                self._fd = open_beside(self._folder, self._name, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not pauses.sleep(until):
                    return False
                continue
            # Somebody removed the folder: what we locked is no longer what others lock.
            if os.fstat(self._fd).st_nlink:
                return True
            self.close()

    def release(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


_all: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _close_inherited() -> None:
    # A flock belongs to the open file description: a child that keeps the descriptor would keep the lock of a
    # parent that is killed. Closing it here does not release what the parent holds.
    for lock in list(_all):
        lock.close()


os.register_at_fork(after_in_child=_close_inherited)


class MemoryLock:
    """The same for a store that lives in one process."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def acquire(self, until: float) -> bool:
        return self._lock.acquire(timeout=max(until - time.monotonic(), 0.02))

    def release(self) -> None:
        self._lock.release()

    def close(self) -> None: ...

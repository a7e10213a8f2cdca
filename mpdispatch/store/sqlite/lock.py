"""The write lock beside the database: one `flock` that every write transaction and checkpoint of ours holds.

It costs two system calls but avoids sleeps in SQLite's busy handler (4 writing processes: 6.4k instead of 3.5k
transactions/s), and none of our checkpoints races one of our commits (see `mpdispatch.sqlite3`).
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import weakref
from pathlib import Path
from typing import Protocol

from mpdispatch.clock import sleep
from mpdispatch.private import open_private


class Pauses:
    """Growing, jittered pauses between two tries: from 0.1 ms to `at_most_s`."""

    __slots__ = ("_began", "_next_s")

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._next_s = 0.0001

    @property
    def waited_s(self) -> float:
        return time.monotonic() - self._began

    def sleep(self, until: float, *, at_most_s: float = 0.002) -> bool:
        """Sleep for the next pause; returns False at once if `until`, a monotonic time, is past."""
        left = until - time.monotonic()
        if left <= 0:
            return False
        # Not `random`: few need to wait, and a process that ends waits, too, when it can import no more.
        jitter = 0.5 + os.urandom(1)[0] / 255
        sleep(min(left, min(self._next_s, at_most_s) * jitter))
        self._next_s = min(self._next_s * 1.5, 0.002)
        return True


class WriteLock(Protocol):
    def acquire(self, until: float) -> bool:
        """Take the lock; False if it is still held elsewhere at `until` (monotonic). Tries at least once."""
        ...

    def is_there(self) -> bool:
        """Whether the lock exists, so that someone may hold it."""
        ...

    def release(self) -> None: ...

    def close(self) -> None: ...


def open_beside(folder: Path, name: str, flags: int) -> int:
    """Open a file in the store's side folder (made if missing). Both must be private to this user.

    Raises NotPrivateError; OSError.
    """
    return open_private(folder / name, flags, create_folder=True)


_MOST_IN_A_ROW = 4
"""With 8 processes that only enqueue: 1,330 instead of 880 per second, 90 % within 5 instead of 26 ms."""


class FileLock:
    """`flock` on a file, with descriptors of its own, so it excludes threads as well as processes.

    `queue=True` adds a second lock, the turnstile. Without it, a releasing process takes the lock again before a
    sleeping waiter tries, and waits of 12 busy processes reached a second. One waiter holds the turnstile and tries
    often, so the lock passes on within 0.1 ms. Supervisors do not queue: they go first. Passing the lock on is slow, as
    the next waiter sleeps; so the holder may retake it ahead of the queue, but only a few times in a row.
    """

    __slots__ = ("__weakref__", "_fd", "_folder", "_in_a_row", "_is_queueing", "_turnstile_fd")

    def __init__(self, folder: Path, *, queue: bool = False) -> None:
        self._folder, self._is_queueing = folder, queue
        self._fd = self._turnstile_fd = -1
        self._in_a_row = 0
        _all.add(self)

    def acquire(self, until: float) -> bool:
        if self._fd < 0:
            self._open()
        try:
            if self._is_queueing and self._in_a_row < _MOST_IN_A_ROW and _try(self._fd) and self._is_current():
                self._in_a_row += 1
                return True
            self._in_a_row = 0
            return self._wait(until)
        except BaseException:
            # An interrupt may come just after locking: unlock, or others wait until our next write.
            for fd in (self._fd, self._turnstile_fd):
                if fd >= 0:
                    fcntl.flock(fd, fcntl.LOCK_UN)
            raise

    def is_there(self) -> bool:
        return self._fd >= 0 or self._folder.is_dir()

    def _wait(self, until: float) -> bool:
        is_next = not self._is_queueing
        pauses: Pauses | None = None
        while True:
            is_next = is_next or _try(self._turnstile_fd)
            # The holder of the turnstile may be stopped (Ctrl-Z): do not wait long for it.
            if (is_next or (pauses is not None and pauses.waited_s > 0.1)) and _try(self._fd):
                self._leave_turnstile()
                if self._is_current():
                    return True
                is_next = not self._is_queueing
                continue
            if pauses is None:
                pauses = Pauses()
            if not pauses.sleep(until, at_most_s=0.0001 if is_next else 0.002):
                self._leave_turnstile()
                return False

    def _leave_turnstile(self) -> None:
        if self._is_queueing:
            fcntl.flock(self._turnstile_fd, fcntl.LOCK_UN)

    def _is_current(self) -> bool:
        """Whether we locked the file that others lock. If the folder was removed, open the file again."""
        if os.fstat(self._fd).st_nlink:
            return True
        self.close()
        self._open()
        return False

    def _open(self) -> None:
        try:
            if self._is_queueing:
                self._turnstile_fd = open_beside(self._folder, "queue", os.O_RDWR | os.O_CREAT)
            self._fd = open_beside(self._folder, "lock", os.O_RDWR | os.O_CREAT)
        except OSError:
            self.close()  # the turnstile's descriptor: the next try opens it again
            raise

    def release(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        for fd in (self._fd, self._turnstile_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._turnstile_fd = -1


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


_all: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _close_inherited() -> None:
    # A flock belongs to the open file description: a child that keeps the descriptor would keep the lock of a
    # parent that is killed. Closing it here does not release what the parent holds.
    for lock in list(_all):
        lock.close()


os.register_at_fork(after_in_child=_close_inherited)


class MemoryLock:
    """The write lock of a store in memory."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def acquire(self, until: float) -> bool:
        return self._lock.acquire(timeout=max(until - time.monotonic(), 0.02))

    def is_there(self) -> bool:
        return True

    def release(self) -> None:
        self._lock.release()

    def close(self) -> None: ...

"""Locks of which one process of this machine at a time holds each: flocks in a store's runtime folder. Effects.

The kernel releases it when the holder dies, however that happens. The file names the holder, so that others can
wait for that process to end instead of polling every half second.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from pathlib import Path

from mpdispatch.host.processes import ProcessId, process_id
from mpdispatch.private import open_private

SUPERVISING = "supervising"
"""The lock that selects one supervising extension per store."""


class ProcessLock:
    """A lock by its name. Never waits for it. Not inherited: a fork of the holder does not hold it."""

    def __init__(self, folder: Path, name: str) -> None:
        """`name`: of its file in the folder."""
        self._folder, self._name = folder, name
        self._fd = -1
        _all.add(self)

    @property
    def is_held(self) -> bool:
        return self._fd >= 0

    def try_acquire(self) -> bool:
        """True if this process now holds the lock. Raises OSError, without the lock, if the file cannot be written."""
        if self._fd >= 0:
            if os.fstat(self._fd).st_nlink:
                return True
            self.release()  # The folder was removed: another process would lock another file.
        me = process_id()
        fd = open_private(self._folder / self._name, os.O_RDWR | os.O_CREAT, create_folder=True)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:  # else the folder was removed meanwhile; the next try makes it again
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{me.pid} {me.start}\n".encode(), 0)
                self._fd = fd
        except BlockingIOError:
            return False
        finally:
            if self._fd < 0:
                os.close(fd)  # a descriptor left open would keep the lock for ever
        return self._fd >= 0

    def holder(self) -> ProcessId | None:
        """The process that last took the lock, which may have ended since; None if unreadable."""
        try:
            with open(open_private(self._folder / self._name, os.O_RDONLY)) as file:
                pid, start = file.read().split()
            return ProcessId(int(pid), int(start))
        except (OSError, ValueError):
            return None

    def remove(self) -> None:
        """Release it and leave no file behind, if this process holds it."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):  # its folder was removed
                os.unlink(self._folder / self._name)
            self.release()

    def release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


_all: weakref.WeakSet[ProcessLock] = weakref.WeakSet()


def _close_inherited() -> None:
    # A flock belongs to the open file description: a child that kept the descriptor would keep the lock of a
    # killed parent. Closing it here does not release what the parent holds.
    for lock in list(_all):
        lock.release()


os.register_at_fork(after_in_child=_close_inherited)

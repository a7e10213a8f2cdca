"""The lock that makes one extension per store the supervising one: a flock in the store's runtime folder. Effects.

The kernel lets go of it when its holder dies, however that happens. The file says who holds it, so that others can
wait for the end of that process instead of looking every half second.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path

from mpdispatch.host.processes import ProcessId, process_id
from mpdispatch.private import open_private

__all__ = ["SupervisorLock"]

NAME = "supervising"


class SupervisorLock:
    """One try at a time; never waits. Not inherited: a fork of the holder does not hold it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd = -1
        _all.add(self)

    @property
    def is_held(self) -> bool:
        return self._fd >= 0

    def try_acquire(self) -> bool:
        """Whether we hold it now. Raises OSError if the file cannot be opened or written; then we do not."""
        if self._fd >= 0:
            if os.fstat(self._fd).st_nlink:
                return True
            self.release()  # Somebody has removed the folder: the next one locks another file.
        me = process_id()
        fd = open_private(self._folder / NAME, os.O_RDWR | os.O_CREAT, create_folder=True)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:  # else somebody removed the folder meanwhile; the next try makes it anew
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{me.pid} {me.start}\n".encode(), 0)
                self._fd = fd
        except BlockingIOError:
            return False
        finally:
            if self._fd < 0:
                os.close(fd)  # not kept: with it, nobody could ever take the lock
        return self._fd >= 0

    def holder(self) -> ProcessId | None:
        """Who took it last, for as far as that can be read: it may have ended since."""
        try:
            with open(open_private(self._folder / NAME, os.O_RDONLY)) as file:
                pid, start = file.read().split()
            return ProcessId(int(pid), int(start))
        except (OSError, ValueError):
            return None

    def release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


_all: weakref.WeakSet[SupervisorLock] = weakref.WeakSet()


def _close_inherited() -> None:
    # A flock belongs to the open file description: a child that kept the descriptor would keep the lock of a
    # killed parent. Closing it here does not release what the parent holds.
    for lock in list(_all):
        lock.release()


os.register_at_fork(after_in_child=_close_inherited)

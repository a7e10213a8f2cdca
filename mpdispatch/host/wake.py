"""Wake-ups: each supervisor of this machine has a FIFO in the store's runtime folder; an enqueue writes a byte into all.

Wake-ups are hints and may be lost. `bring_wake_ups` supplies them to a store that has none of its own. Any process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from mpdispatch.host.runtime_folder import LocatedStore, leads_to, runtime_folder
from mpdispatch.private import open_folder, open_in

_PREFIX = "wake."
# A folder's mtime has the resolution of the kernel's tick: two changes within one tick look like one.
_MTIME_GRAIN_NS = 50_000_000


class FifoListener:
    """A supervisor's end of the wake-ups."""

    def __init__(self, folder: Path, owner: int) -> None:
        """Raises OSError if the folder is not private to this user or its file system has no FIFOs."""
        self._path = folder / f"{_PREFIX}{owner}"
        opened = open_folder(folder, create=True)
        try:
            # A FIFO of an earlier database at this path may exist: owner ids restarted with the new file.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path.name, dir_fd=opened)
            os.mkfifo(self._path.name, 0o600, dir_fd=opened)
            # Open for reading and writing: a FIFO without a writer is at end of file and always readable.
            self._fd = open_in(opened, self._path, os.O_RDWR | os.O_NONBLOCK)
        finally:
            os.close(opened)

    def fileno(self) -> int:
        return self._fd

    def drain(self) -> None:
        try:
            while len(os.read(self._fd, 4096)) == 4096:
                pass
        except BlockingIOError:
            return

    def is_in_place(self) -> bool:
        """Whether wake-ups reach it: neither the file nor the folder was removed."""
        return leads_to(self._path, self._fd)

    def close(self) -> None:
        """Remove the FIFO; later wake-ups skip it."""
        if self._fd >= 0:
            # Do not remove the FIFO of a new database at this path, whose owner ids restarted.
            if leads_to(self._path, self._fd):
                with contextlib.suppress(OSError):
                    self._path.unlink()
            os.close(self._fd)
            self._fd = -1


def remove_listener(folder: Path, owner: int) -> None:
    """Remove the FIFO of a supervisor that is gone."""
    with contextlib.suppress(OSError):
        (folder / f"{_PREFIX}{owner}").unlink()


class FifoWake:
    """Wakes the supervisors of this machine and makes listeners. Thread-safe; keeps FIFOs open between wake-ups."""

    def __init__(self, find_folder: Callable[[], Path]) -> None:
        """`find_folder` returns the store's runtime folder; called on first use."""
        self._find_folder = find_folder
        self._folder: Path | None = None
        self._folder_fd = -1
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a signal handler may notify as well
        self._fds = list[int]()
        self._seen_mtime_ns = -1

    def listen(self, owner: int) -> FifoListener | None:
        """A listener for the supervisor with this id. None: no FIFO is possible, so the supervisor has to poll."""
        try:
            return FifoListener(self._find_folder(), owner)
        except OSError:
            return None

    def notify(self) -> None:
        """Wake all supervisors. Never blocks or raises."""
        if self._pid != os.getpid():
            # Another thread of the parent may have held the lock at the fork. The descriptors stay valid.
            self._pid, self._lock = os.getpid(), threading.RLock()
        with self._lock:
            try:
                self._look_around()
            except OSError:
                self._forget()  # no folder, or not private to us: no supervisors to wake
            if self._fds:
                self._fds = [fd for fd in self._fds if self._write(fd)]

    def _look_around(self) -> None:
        if self._folder is None:
            self._folder = self._find_folder()
        if self._folder_fd < 0:
            self._folder_fd = open_folder(self._folder)
        # fstat costs half as much as a stat by path, and every enqueue does this.
        found = os.fstat(self._folder_fd)
        mtime_ns = found.st_mtime_ns
        if found.st_nlink == 0:  # The folder was removed; there may be a new one.
            self._forget()
            self._look_around()
            return
        if mtime_ns == self._seen_mtime_ns:
            return
        self._forget_listeners()
        for entry in os.listdir(self._folder_fd):
            if entry.startswith(_PREFIX):
                # ENXIO: no reader, the supervisor is dead. ENOENT: the FIFO was just removed.
                with contextlib.suppress(OSError):
                    self._fds.append(
                        open_in(self._folder_fd, self._folder / entry, os.O_WRONLY | os.O_NONBLOCK)
                    )
        is_settled = time.time_ns() - mtime_ns > _MTIME_GRAIN_NS
        self._seen_mtime_ns = mtime_ns if is_settled else -1

    def _write(self, fd: int) -> bool:
        try:
            os.write(fd, b"!")
        except OSError as error:
            if error.errno != errno.EAGAIN:  # a full FIFO already wakes its reader
                os.close(fd)
                return False
        return True

    def _forget_listeners(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds = []
        self._seen_mtime_ns = -1

    def _forget(self) -> None:
        self._forget_listeners()
        if self._folder_fd >= 0:
            os.close(self._folder_fd)
            self._folder_fd = -1

    def close(self) -> None:
        """Close the FIFOs; the next wake-up opens them again."""
        with self._lock:
            self._forget()

    def __del__(self) -> None:
        self._forget()


class WokenStore(LocatedStore, Protocol):
    """A store whose `wake_ups` can be set."""

    wake_ups: Any


def bring_wake_ups(store: WokenStore) -> None:
    """Give the store wake-ups for the supervisors of this machine, unless it has its own."""
    if store.wake_ups is not None:
        return
    found = weakref.ref(store)  # weak: the store refers to its wake-ups, and a cycle would keep it alive

    def find_folder() -> Path:
        kept = found()
        assert kept is not None, "only a store uses its wake-ups"
        return runtime_folder(kept)

    store.wake_ups = FifoWake(find_folder)

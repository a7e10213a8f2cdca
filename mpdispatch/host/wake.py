"""Wake-ups through FIFOs in the store's runtime folder: supervisors hear of new jobs, waiting clients of ended ones.

Each supervisor of this machine has a FIFO, into which every enqueue writes a byte. Each waiting client has one in a
folder of its own, so that enqueues do not look at it; every commit that ended jobs writes into those.
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
_WAITING = "waiting"
# A folder's mtime has the resolution of the kernel's tick: two changes within one tick look like one.
_MTIME_GRAIN_NS = 50_000_000
_YOUNG_NS = 1_000_000_000
"""A FIFO without a reader is not removed until it is as old as this: its reader may be about to open it."""
_MOST_OPEN = 256
"""Of FIFOs of one kind. A supervisor needs descriptors for its workers; a client without a wake-up polls."""


class FifoListener:
    """The reading end of a FIFO."""

    def __init__(self, path: Path) -> None:
        """Raises OSError if the folder is not private to this user or its file system has no FIFOs."""
        self._path = path
        opened = open_folder(path.parent, create=True)
        try:
            # A FIFO of an earlier database at this path may exist: owner ids restarted with the new file.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path.name, dir_fd=opened)
            os.mkfifo(path.name, 0o600, dir_fd=opened)
            # Open for reading and writing: a FIFO without a writer is at end of file and always readable.
            self._fd = open_in(opened, path, os.O_RDWR | os.O_NONBLOCK)
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


class _Fifos:
    """The writing ends of the FIFOs in a folder, kept open between wake-ups. One thread at a time."""

    def __init__(self, find_folder: Callable[[], Path], prefix: str, *, owns_folder: bool) -> None:
        """`owns_folder`: it is for these FIFOs alone, a folder of the runtime folder. Then it is made if the runtime folder
        is there, and FIFOs that nobody reads are removed.
        """
        self._find_folder, self._prefix, self._owns_folder = find_folder, prefix, owns_folder
        self._folder: Path | None = None
        self._folder_fd = -1
        self._fds = list[int]()
        self._seen_mtime_ns = -1

    def write(self) -> None:
        """Wake all readers. Never blocks or raises."""
        try:
            if self._folder_fd < 0:
                self._open_folder()
            # fstat costs half as much as a stat by path, and every enqueue does this.
            found = os.fstat(self._folder_fd)
            if found.st_nlink == 0:  # The folder was removed; there may be a new one.
                self.forget()
                self._open_folder()
                found = os.fstat(self._folder_fd)
            if found.st_mtime_ns != self._seen_mtime_ns:
                self._look_around(found.st_mtime_ns)
        except OSError:
            self.forget()  # no folder, or not private to us: nobody to wake
        if self._fds:
            self._fds = [fd for fd in self._fds if self._write(fd)]

    def _open_folder(self) -> None:
        if self._folder is None:
            self._folder = self._find_folder()
        if self._owns_folder:
            os.close(open_folder(self._folder.parent))  # it must be private too
        # Made, because to find a folder unchanged costs less than to find none.
        self._folder_fd = open_folder(self._folder, create=self._owns_folder)

    def _look_around(self, mtime_ns: int) -> None:
        self._forget_fifos()
        is_settled = time.time_ns() - mtime_ns > _MTIME_GRAIN_NS
        for entry in os.listdir(self._folder_fd):
            if entry.startswith(self._prefix) and len(self._fds) < _MOST_OPEN:
                is_settled &= self._open(entry)
        self._seen_mtime_ns = mtime_ns if is_settled else -1

    def _open(self, entry: str) -> bool:
        """Whether this FIFO need not be looked at again before the folder changes."""
        assert self._folder is not None
        try:
            flags = os.O_WRONLY | os.O_NONBLOCK
            self._fds.append(open_in(self._folder_fd, self._folder / entry, flags))
        except OSError as error:
            # ENXIO: no reader. ENOENT: the FIFO was just removed.
            return error.errno != errno.ENXIO or not self._owns_folder or self._remove_if_old(entry)
        return True

    def _remove_if_old(self, entry: str) -> bool:
        with contextlib.suppress(OSError):
            made_ns = os.stat(entry, dir_fd=self._folder_fd, follow_symlinks=False).st_mtime_ns
            if abs(time.time_ns() - made_ns) < _YOUNG_NS:
                return False
            os.unlink(entry, dir_fd=self._folder_fd)
        return True

    def _write(self, fd: int) -> bool:
        try:
            os.write(fd, b"!")
        except OSError as error:
            if error.errno != errno.EAGAIN:  # a full FIFO already wakes its reader
                os.close(fd)
                return False
        return True

    def _forget_fifos(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds = []
        self._seen_mtime_ns = -1

    def forget(self) -> None:
        """Close everything."""
        self._forget_fifos()
        if self._folder_fd >= 0:
            os.close(self._folder_fd)
            self._folder_fd = -1


class FifoWake:
    """Wakes the supervisors and the waiting clients of this machine, and makes their listeners. Thread-safe."""

    def __init__(self, find_folder: Callable[[], Path]) -> None:
        """`find_folder` returns the store's runtime folder; called on first use."""
        self._find_folder = find_folder
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a signal handler may notify as well
        self._supervisors = _Fifos(find_folder, _PREFIX, owns_folder=False)
        self._waiters = _Fifos(lambda: find_folder() / _WAITING, "", owns_folder=True)

    def listen(self, owner: int) -> FifoListener | None:
        """A listener for the supervisor with this id. None: no FIFO is possible, so the supervisor has to poll."""
        try:
            return FifoListener(self._find_folder() / f"{_PREFIX}{owner}")
        except OSError:
            return None

    def listen_for_ends(self) -> FifoListener | None:
        """A listener for one client that waits. None: no FIFO is possible, so the client has to poll."""
        try:
            folder = self._find_folder()
            os.close(open_folder(folder, create=True))
            # A name that no other process has, in any container.
            return FifoListener(folder / _WAITING / f"{os.getpid()}.{os.urandom(6).hex()}")
        except OSError:
            return None

    def notify(self) -> None:
        """Wake all supervisors. Never blocks or raises."""
        self._notify(self._supervisors)

    def notify_of_ends(self) -> None:
        """Wake all clients that wait for jobs to end. Never blocks or raises."""
        self._notify(self._waiters)

    def _notify(self, fifos: _Fifos) -> None:
        if self._pid != os.getpid():
            # Another thread of the parent may have held the lock at the fork. The descriptors stay valid.
            self._pid, self._lock = os.getpid(), threading.RLock()
        with self._lock:
            fifos.write()

    def close(self) -> None:
        """Close the FIFOs; the next wake-up opens them again."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        self._supervisors.forget()
        self._waiters.forget()

    def __del__(self) -> None:
        self._forget()


class WokenStore(LocatedStore, Protocol):
    """A store whose `wake_ups` can be set."""

    wake_ups: Any


def bring_wake_ups(store: WokenStore) -> None:
    """Give the store wake-ups for the processes of this machine, unless it has its own."""
    if store.wake_ups is not None:
        return
    found = weakref.ref(store)  # weak: the store refers to its wake-ups, and a cycle would keep it alive

    def find_folder() -> Path:
        kept = found()
        assert kept is not None, "only a store uses its wake-ups"
        return runtime_folder(kept)

    store.wake_ups = FifoWake(find_folder)

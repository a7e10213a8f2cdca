"""The write-ahead log beside a database: its size, its flushes, its checkpoints.

The log starts over at a commit that finds all of it checkpointed and no reader using it. So readers that never
pause would let it grow for ever. Against that we checkpoint often, let a checkpoint wait a little for readers once
the log is large, and let our own readers wait a little then.

Never `stat` the log for its size. Since Linux 6.13 a file whose times were read gets finer ones with the next write,
so every commit would also change the inode: 75 µs of the file system's journal each (measured, ext4).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

from mpdispatch import sqlite3
from mpdispatch.clock import sleep
from mpdispatch.store.sqlite.translate import is_busy

_MIB: Final = 2**20
CHECKPOINT_BYTES: Final = 8 * _MIB
# From this size on a checkpoint waits for readers, up to the connection's busy timeout.
_LARGE_BYTES: Final = 24 * _MIB
# After a reader blocked a checkpoint, do not retry at every commit. A try is cheap (1 MiB in 2 ms); waiting is
# not.
_AGAIN_BYTES: Final = 1 * _MIB
_WAIT_AGAIN_BYTES: Final = 2 * _MIB
# Pause of a reader per MiB of excess size, to make room for a checkpoint, which tries every 2 MiB.
_ASIDE_S: Final = 0.02
_ASIDE_AT_MOST_S: Final = 0.5

_flush = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync
# On macOS fsync does not reach the platter, but this does; SQLite uses it too (PRAGMA fullfsync).
_FULL_FSYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)

_SYNC_FILE_RANGE_WRITE: Final = 2


@cache
def _begin_writing() -> Callable[[int, int, int, int], int] | None:
    """sync_file_range(2), which the standard library lacks; None if not available."""
    try:
        import ctypes  # with the second enqueue, not with every import of mpdispatch

        found = getattr(ctypes.CDLL(None), "sync_file_range", None)
    except (ImportError, OSError):  # a Python built without libffi, or a static one
        return None
    if found is not None:
        found.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return found


class Log:
    """The log of one connection. `path` is None for `:memory:`, which has no log."""

    __slots__ = ("_connection", "_descriptor", "_has_flushed", "_is_in_use", "_past", "_path")

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        self._connection = connection
        self._path = None if path is None else f"{path}-wal"
        self._descriptor = -1
        self._past = CHECKPOINT_BYTES
        self._has_flushed = False
        """False until the first flush: a process that ends after one job would load more than it gains."""
        self._is_in_use = False

    def used(self) -> None:
        """From now on SQLite keeps the log open, so nobody else's last connection deletes it."""
        self.close()  # it may have been the log of others, which is gone by now
        self._is_in_use = True

    def _open(self) -> bool:
        """Open our own descriptor of the log; False: there is no log, in memory or not yet.

        The file is not deleted while a connection uses it. SQLite locks the database and the -shm file, never
        the log, so closing this descriptor drops no SQLite lock.
        """
        if self._descriptor < 0 and self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        return self._descriptor >= 0

    def close(self) -> None:
        """Close the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    # Bound here: at the end of the interpreter the names of this module may be gone.
    def __del__(self, _close: Callable[[int], None] = os.close) -> None:
        if self._descriptor >= 0:
            _close(self._descriptor)

    def is_gone(self) -> bool:
        """Whether somebody has deleted the log, so that nobody else sees our commits.

        The database beside it may be another one by now, and a checkpoint would write the old one's pages over it.
        """
        if self._descriptor < 0 or not self._is_in_use:
            return False
        try:
            # Not fstat, see above.
            return os.readlink(f"/proc/self/fd/{self._descriptor}").endswith(" (deleted)")
        except OSError:  # no /proc: macOS, where a stat costs nothing later
            return os.fstat(self._descriptor).st_nlink == 0

    def size(self) -> int:
        """In bytes. The file keeps up to CHECKPOINT_BYTES when the log starts over."""
        try:
            return os.lseek(self._descriptor, 0, os.SEEK_END) if self._open() else 0
        except OSError:
            return 0  # no descriptor left: commits are not affected, and a checkpoint can wait

    def prepare_flush(self) -> None:
        """Open what a flush needs, so that it does not fail after a commit for lack of a descriptor. Raises OSError.

        Also, the system reports a disk's error only to descriptors open at that time. Just after a switch to
        write-ahead logging there is no log yet.
        """
        self._open()
        if self._has_flushed:
            _begin_writing()

    def begin_flush(self) -> None:
        """Start writing to disk, so that `flush` waits less. A hint: it neither waits nor raises."""
        if self._has_flushed and self._descriptor >= 0 and (begin := _begin_writing()) is not None:
            begin(self._descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)

    def flush(self) -> None:
        """Make all commits so far survive a power cut. Raises OSError."""
        if self._path is None:
            return
        self._has_flushed = True
        if not self._open():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._path)
        if _FULL_FSYNC is not None:
            with contextlib.suppress(OSError):  # as SQLite does: not every file system there has it
                fcntl.fcntl(self._descriptor, _FULL_FSYNC)
                return
        _flush(self._descriptor)

    def is_due(self) -> bool:
        """Whether the log has grown enough for a checkpoint (or another one)."""
        size = self.size()
        if size <= CHECKPOINT_BYTES:
            # Also after the log started over: else each round would begin at the size where the last one ended.
            self._past = CHECKPOINT_BYTES
        return size > self._past

    def checkpoint(self, *, truncate: bool = False) -> None:
        """Checkpoint the log into the database, as far as readers allow. Only under the write lock.

        A large log, and any with `truncate`, is also cut to nothing, for which it waits a little for readers.

        Raises:
            sqlite3.Error: anything but BUSY.
        """
        size = self.size()
        is_large = size > _LARGE_BYTES
        self._past = size + (_WAIT_AGAIN_BYTES if is_large else _AGAIN_BYTES)
        try:
            self._connection.execute(
                f"PRAGMA wal_checkpoint({'TRUNCATE' if is_large or truncate else 'PASSIVE'})"
            ).fetchone()
        except sqlite3.Error as error:
            if not is_busy(error):
                raise

    def step_aside(self) -> None:
        """Before a read: pause if the log is large, so that a checkpoint finds a moment without readers."""
        began: float | None = None
        while (excess := self.size() - _LARGE_BYTES) > 0:
            began = time.monotonic() if began is None else began
            if time.monotonic() - began > min(_ASIDE_S * excess / _MIB, _ASIDE_AT_MOST_S):
                return
            sleep(0.002)

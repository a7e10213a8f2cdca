"""Finds out whether an SQLite error comes from a full disk. Effects: makes an unnamed file, writes to it, drops it.

SQLite reports only ENOSPC as a full disk. It reports an exceeded quota (EDQUOT) as an I/O error, and a file it cannot
create or grow as one that cannot be opened or mapped; Python does not pass on the system's error number. So after such
an error we try to write.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from mpdispatch import sqlite3
from mpdispatch.errors import StoreError, StoreFull, StoreIOError, StorePermission
from mpdispatch.store.sqlite.translate import translated

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})

BY_ERRNO: dict[int, type[StoreError]] = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), StorePermission),
    **dict.fromkeys(NO_ROOM, StoreFull),
    errno.EIO: StoreIOError,
}
"""The error that one of the system's means, for a file of ours."""

_PROBE_BYTES = 256 * 1024
"""More than SQLite allocates at once (a page, or 32 KiB of shared memory): if that failed, this fails too."""
# Without a failed fsync: after it the state on disk is unknown, whatever the reason.
_MAY_BE_FULL = ("SQLITE_IOERR_WRITE", "SQLITE_IOERR_TRUNCATE", "SQLITE_IOERR_SHM", "SQLITE_CANTOPEN")


def has_room(folder: Path) -> bool:
    """Whether this process can write in this folder; True also if that cannot be tried."""
    import tempfile  # 1 MiB, only needed for this error

    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            # Random data, which no file system can compress; synced, as some check their quota only then.
            data = os.urandom(_PROBE_BYTES)
            if os.pwrite(file.fileno(), data, 0) < len(data):
                return False
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno not in NO_ROOM
    return True


def diagnosed(error: sqlite3.Error, location: str, path: Path | None) -> Exception:
    """As `translated`, but StoreFull if a full disk can cause the error and there is no room beside `path`."""
    problem = translated(error, location)
    name = getattr(error, "sqlite_errorname", None) or ""
    if path is None or not isinstance(problem, StoreError) or not name.startswith(_MAY_BE_FULL):
        return problem
    return problem if has_room(path.parent) else StoreFull(location)

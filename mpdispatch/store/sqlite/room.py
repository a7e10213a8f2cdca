"""Whether a disk has room, where SQLite does not say so. Effects: makes a nameless file, writes to it, forgets it.

SQLite knows ENOSPC as a full disk. A quota that is used up (EDQUOT) it reports as an I/O error, and a file it cannot
make or grow as one that cannot be opened or mapped; Python does not pass the system's error number on. So after such an
error we write some ourselves and see.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from mpdispatch import sqlite3
from mpdispatch.errors import StoreError, StoreFull
from mpdispatch.store.sqlite.translate import translated

__all__ = ["NO_ROOM", "diagnosed", "has_room"]

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})

_PROBE_BYTES = 256 * 1024
"""More than SQLite asks for at once (a page, or 32 KiB of shared memory): where that found no room this finds none."""
# A failed fsync is not among them: after it nothing is known of what is on disk, whatever the reason was.
_MAY_BE_FULL = ("SQLITE_IOERR_WRITE", "SQLITE_IOERR_TRUNCATE", "SQLITE_IOERR_SHM", "SQLITE_CANTOPEN")


def has_room(folder: Path) -> bool:
    """Whether this process can write in this folder; True as well where that cannot be tried."""
    import tempfile  # a MiB that only this error needs

    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            # Random, so that no file system keeps it in less; to the disk, for some count only then.
            data = os.urandom(_PROBE_BYTES)
            if os.pwrite(file.fileno(), data, 0) < len(data):
                return False
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno not in NO_ROOM
    return True


def diagnosed(error: sqlite3.Error, location: str, path: Path | None) -> Exception:
    """As `translated`; an error that can come of a full disk is a StoreFull if there is no room beside `path`."""
    problem = translated(error, location)
    name = getattr(error, "sqlite_errorname", None) or ""
    if path is None or not isinstance(problem, StoreError) or not name.startswith(_MAY_BE_FULL):
        return problem
    return problem if has_room(path.parent) else StoreFull(location)

"""Opens a connection to a path, with a separate error for each problem of the file."""

from __future__ import annotations

import os
import stat
import sys
import threading
from pathlib import Path

from mpdispatch import sqlite3
from mpdispatch.errors import StoreCannotCreate, StoreError, StoreFull, StoreMissing, StorePermission
from mpdispatch.fstext import percent_encoded
from mpdispatch.store.sqlite.connection import BUSY_TIMEOUT_MS
from mpdispatch.store.sqlite.options import FileOptions
from mpdispatch.store.sqlite.room import NO_ROOM, diagnosed
from mpdispatch.store.sqlite.wal import CHECKPOINT_BYTES
from mpdispatch.store.values import Durability

_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "ceph", "glusterfs", "afs"})

LEAST_SQLITE = (3, 37, 0)
"""The first with STRICT tables; an earlier one takes a store for damaged."""

# Closing any descriptor of a database file drops this process's POSIX locks on it: so creating the file
# (open, close) excludes threads that are opening it.
_creating = threading.Lock()


def filesystem_of(path: Path) -> str:
    """The kernel's name for the type of file system `path` is on; `""` if unknown."""
    if sys.platform != "linux":
        return ""
    best, kind, name = "", "", str(path)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            fields, _, rest = line.partition(" - ")
            point = fields.split(" ", 5)[4]
            if "\\" in point:
                point = point.encode("utf-8", "surrogateescape").decode("unicode_escape")
            # A later mount on the same folder hides the earlier one.
            if len(point) >= len(best) and (name == point or name.startswith(point.rstrip("/") + "/")):
                best, kind = point, rest.split(" ")[0]
    return kind


def refuse_network(path: Path, location: str) -> None:
    """Raise a StoreError if the file would be on a network file system: SQLite's locks do not hold there."""
    kind = filesystem_of(path)
    if kind in _NETWORK or kind.startswith("fuse"):
        raise StoreError(
            location,
            f"is on a network file system ({kind}), where SQLite's locks cannot be trusted;"
            " put the store on a local disk",
        )


def _mode(path: Path) -> str:
    try:
        return stat.filemode(path.stat().st_mode)
    except OSError:
        return "?"


def create_file(path: Path, location: str) -> None:
    """Create an empty file that only its owner can read, if missing. SQLite treats it as a new database."""
    folder = path.parent
    if not folder.is_dir():
        raise StoreCannotCreate(location, f"cannot be created: there is no folder {folder}")
    with _creating:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
            # Sync the folder: a power cut would lose a file whose name is not on disk, with its jobs.
            directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except FileExistsError:
            return
        except PermissionError as error:
            raise StorePermission(
                location, f"cannot be created: no permission to write in {folder} ({_mode(folder)})"
            ) from error
        except OSError as error:
            if error.errno in NO_ROOM:
                raise StoreFull(location) from error
            raise StoreCannotCreate(location, f"cannot be created: {error.strerror}") from error


def _refuse_unusable(path: Path, location: str) -> None:
    try:
        found = path.stat()
    except FileNotFoundError:
        folder = path.parent
        detail = "" if folder.is_dir() else f"no store here: there is no folder {folder}"
        raise StoreMissing(location, detail) from None
    except NotADirectoryError as error:
        raise StoreCannotCreate(
            location, "cannot be created: a file stands where a folder is needed"
        ) from error
    except PermissionError as error:
        raise StorePermission(
            location, f"cannot be reached: {error.strerror} ({_mode(path.parent)})"
        ) from error
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise StoreCannotCreate(location, f"is {kind}, not a database")
    if found.st_nlink > 1:
        raise StoreError(
            location,
            f"has {found.st_nlink} names (hard links), and by each name SQLite keeps a log of its own, so jobs would be"
            f" lost; remove all but one (`find DIR -samefile {path.name}` finds them); a symbolic link may stay, and"
            f" `sqlite3 {path.name} '.backup COPY'` makes a copy",
        )
    for flag, verb in ((os.R_OK, "read"), (os.W_OK, "write")):
        if not os.access(path, flag):
            raise StorePermission(location, f"no permission to {verb} it (mode {stat.filemode(found.st_mode)})")


def _refuse_old_sqlite(copy: str, location: str) -> None:
    found = sqlite3.COPIES[copy].sqlite_version_info
    if found < LEAST_SQLITE:
        needed, there = (".".join(map(str, version)) for version in (LEAST_SQLITE, found))
        raise StoreError(
            location,
            f"needs SQLite {needed} or later, and {copy} has {there}; pip install 'mpdispatch[sqlite]' brings one",
        )


def connect_file(path: Path, location: str, options: FileOptions) -> sqlite3.Connection:
    """A connection to an existing file, set up but with its content unchecked."""
    _refuse_old_sqlite(options.copy, location)
    refuse_network(path, location)
    _refuse_unusable(path, location)
    try:
        # mode=rw: SQLite must never create the file, which would get the umask's permissions.
        with _creating:
            connection: sqlite3.Connection = sqlite3.COPIES[options.copy].connect(
                f"file:{percent_encoded(str(path))}?mode=rw",
                uri=True,
                isolation_level=None,
                timeout=BUSY_TIMEOUT_MS / 1000,
                check_same_thread=False,
                cached_statements=256,
            )
        try:
            _set_up(connection, options.durability)
        except BaseException:
            connection.close()
            raise
    except sqlite3.ERRORS as error:
        raise diagnosed(error, location, path) from error
    return connection


def connect_memory() -> sqlite3.Connection:
    """A database that lives as long as this connection."""
    _refuse_old_sqlite(next(iter(sqlite3.COPIES)), ":memory:")
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, cached_statements=256)


def _set_up(connection: sqlite3.Connection, durability: Durability | None) -> None:
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if durability == 'process' else 'FULL'}")
    # macOS: an fsync that reaches the platter. No effect elsewhere.
    connection.execute(f"PRAGMA fullfsync = {int(durability != 'process')}")
    # Checkpoints run under the write lock only, see Session.
    connection.execute("PRAGMA wal_autocheckpoint = 0").fetchone()
    connection.execute(f"PRAGMA journal_size_limit = {CHECKPOINT_BYTES}").fetchone()

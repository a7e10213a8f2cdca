"""Translates SQLite's errors into ours. Pure."""

from __future__ import annotations

from mpdispatch import sqlite3
from mpdispatch.errors import (
    StoreBusy,
    StoreCannotCreate,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreIOError,
    StoreMoved,
    StorePermission,
    StoreVanished,
)

NO_ID_LEFT = (
    "no job id is left: somebody has given a job an id near 9223372036854775807, the highest there can be, and new ones"
    " come after it; `mpdispatch doctor` says which, delete that row of mpdispatch_jobs by hand"
)

MOVED = "mpdispatch: this store "
"""With this begins what the triggers of a frozen store say, see `transfer`."""

INTEGRITY_ERRORS: tuple[type[Exception], ...] = tuple(copy.IntegrityError for copy in sqlite3.COPIES.values())
"""A constraint refuses the change."""

# Extended codes (SQLITE_IOERR_FSYNC, SQLITE_BUSY_SNAPSHOT …) share their base code's start. First match wins.
_BY_NAME: tuple[tuple[str, type[StoreError]], ...] = (
    ("SQLITE_BUSY", StoreBusy),
    ("SQLITE_LOCKED", StoreBusy),
    ("SQLITE_PROTOCOL", StoreBusy),
    ("SQLITE_FULL", StoreFull),
    ("SQLITE_IOERR", StoreIOError),
    ("SQLITE_READONLY_DBMOVED", StoreVanished),
    ("SQLITE_READONLY", StorePermission),
    ("SQLITE_PERM", StorePermission),
    ("SQLITE_AUTH", StorePermission),
    ("SQLITE_CANTOPEN", StoreCannotCreate),
    ("SQLITE_CORRUPT", StoreCorrupt),
    ("SQLITE_NOTADB", StoreCorrupt),
)


def _name(error: BaseException) -> str:
    return getattr(error, "sqlite_errorname", None) or ""


def is_busy(error: BaseException) -> bool:
    """Whether another connection holds a lock, so that a retry may help."""
    return isinstance(error, sqlite3.ERRORS) and _name(error).startswith(
        ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")
    )


def is_no_id_left(error: BaseException) -> bool:
    """Whether an INSERT computed an id above the highest possible one, which is not an integer any more."""
    return isinstance(error, sqlite3.ERRORS) and _name(error) == "SQLITE_MISMATCH"


def is_moved(error: BaseException) -> bool:
    """Whether a trigger refuses the change, because the store is frozen."""
    return isinstance(error, sqlite3.ERRORS) and str(error).startswith(MOVED)


def translated(error: sqlite3.Error, location: str) -> Exception:
    """The StoreError for this error, or the error itself if it is our bug (bad SQL, a broken constraint)."""
    name = _name(error)
    if is_no_id_left(error):
        return StoreCorrupt(location, NO_ID_LEFT)
    if is_moved(error):
        return StoreMoved(location, str(error).removeprefix(MOVED))
    for start, kind in _BY_NAME:
        if name.startswith(start):
            return kind(location, f"{kind._what} ({name}: {error})")
    return error

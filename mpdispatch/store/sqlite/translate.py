"""SQLite's errors as ours, in one place. Pure."""

from __future__ import annotations

from mpdispatch import sqlite3
from mpdispatch.errors import (
    StoreBusy,
    StoreCannotCreate,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreIOError,
    StorePermission,
    StoreVanished,
)

__all__ = ["is_busy", "translated"]

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
    """Whether somebody else holds a lock, and trying again may help."""
    return isinstance(error, sqlite3.ERRORS) and _name(error).startswith(
        ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")
    )


def translated(error: sqlite3.Error, location: str) -> Exception:
    """The StoreError this is, or the error itself if it is a fault of ours (bad SQL, a broken constraint)."""
    name = _name(error)
    for start, kind in _BY_NAME:
        if name.startswith(start):
            return kind(location, f"{kind._what} ({name}: {error})")
    return error

"""Translates PostgreSQL's errors into ours. Pure."""

from __future__ import annotations

import re

import psycopg
from psycopg import errors

from mpdispatch.errors import (
    StoreBusy,
    StoreCannotCreate,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreIOError,
    StoreMoved,
    StorePermission,
    StoreUnreachable,
    StoreVanished,
    UsageError,
)

_SECRET = re.compile(r"(?i)(passw\w*\s*[=:]\s*)('[^']*'|\S+)|(\w+://[^\s:/@]*:)[^\s@]*@")
_MOST_TEXT = 300

# First match wins: whole codes of five letters before classes of two.
_BY_CODE: tuple[tuple[str, type[StoreError]], ...] = (
    ("53100", StoreFull),
    ("53300", StoreBusy),  # too many connections
    ("55P03", StoreBusy),  # a lock was not to be had in time
    ("57014", StoreBusy),  # a limit of the server's on the time of a statement
    ("40", StoreBusy),  # deadlock, serialisation
    ("58030", StoreIOError),
    ("XX001", StoreCorrupt),
    ("XX002", StoreCorrupt),
    ("42501", StorePermission),
    ("25006", StorePermission),  # a read-only server or transaction
    ("28", StorePermission),
    ("3D000", StoreCannotCreate),
    ("3F000", StoreVanished),
    ("42P01", StoreVanished),
    ("25P03", StoreUnreachable),  # a transaction that idled for too long
    ("25P04", StoreUnreachable),
    ("08", StoreUnreachable),
    ("57P", StoreUnreachable),  # the server stops, starts or has crashed
    ("53", StoreUnreachable),  # out of memory or of something else
)
_MOVED, _THIS_STORE = "MPD01", "mpdispatch: this store "
"""The code of an error that the triggers of a frozen store raise, and how it begins: see `transfer`."""
_WHAT: dict[type[StoreError], str] = {
    StoreBusy: "the server is busy",
    StoreFull: "the server's disk is full; nothing was stored",
    StoreIOError: "the server's disk reports an I/O error",
    StoreCorrupt: "the server reports damaged data",
    StorePermission: "the server refuses this user",
    StoreCannotCreate: "there is no such database; make it with createdb",
    StoreVanished: "its tables were dropped while in use",
    StoreUnreachable: "the server cannot be reached",
}


def is_lost(error: BaseException) -> bool:
    """Whether the connection is of no more use, so that a new one may do better."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    return error.sqlstate is None or translated(error, "").__class__ is StoreUnreachable


def is_worth_another_try(error: BaseException) -> bool:
    """Whether the same transaction may succeed if it is begun again at once: a deadlock, a failed serialisation."""
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith("40")


def translated(error: psycopg.Error, location: str) -> Exception:
    """The StoreError for this error, or the error itself if it is our bug (bad SQL, a broken constraint).

    Its text holds no password.
    """
    code = error.sqlstate or ""
    if not code and isinstance(error, psycopg.DataError):  # of the driver: a NUL, or bytes that are no text
        return UsageError(
            f"{location}: PostgreSQL stores text in UTF-8 without NUL, and here is {shown(error)}"
        )
    if not code:
        lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        kind: type[StoreError] | None = StoreUnreachable if lost else None
    else:
        kind = next((kind for start, kind in _BY_CODE if code.startswith(start)), None)
    if code == _MOVED:
        return StoreMoved(location, (error.diag.message_primary or "").removeprefix(_THIS_STORE))
    if kind is None:
        return error
    if isinstance(error, errors.LockNotAvailable):
        return StoreBusy(location, "another transaction holds the store's lock on the server")
    return kind(location, f"{_WHAT[kind]} ({shown(error)})")


def shown(error: BaseException) -> str:
    """The error's text in one line, short, and without anything that looks like a password."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = _SECRET.sub(lambda found: f"{found[1] or found[3]}***{'@' if found[3] else ''}", text)
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"

"""Closes all connections before each fork of this process; the next use opens them again. Effects.

SQLite keeps a table of its process's locks on each open file. A forked child inherits the table but not the locks, so
files it opens are not locked: another process that closes last deletes the log, and later writes of the child are lost
with it (seen: an acknowledged job lost). And a lock that another thread holds during the fork is held for ever. A file
that is not open has no entry in the table.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections import Counter
from typing import Protocol

from mpdispatch.errors import StoreError, StoreVanished

_PATIENCE_S = 1.0
"""Longest wait of a fork for threads that are using the store. A transaction takes milliseconds."""

FileIdentity = tuple[int, int]


class _Lock(Protocol):
    def acquire(self, *, timeout: float = -1) -> bool: ...

    def release(self) -> None: ...


class Held(Protocol):
    """An open connection."""

    @property
    def connection(self) -> object: ...

    @property
    def identity(self) -> FileIdentity | None: ...

    @property
    def use(self) -> _Lock:
        """Held while the connection is in use."""
        ...

    def close(self) -> None: ...


class ForkGate:
    """Entered to open or close a connection; shut while this process forks. Several threads may be inside."""

    def __init__(self) -> None:
        self._forker: int | None = None
        self.begin_anew()

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._changed:
            # The fork waits for threads already inside, so they may enter again.
            self._changed.wait_for(lambda: self._forker in (None, me) or me in self._inside)
            self._inside[me] += 1

    def __exit__(self, *_: object) -> None:
        me = threading.get_ident()
        with self._changed:
            self._inside[me] -= 1
            if not self._inside[me]:
                del self._inside[me]
                self._changed.notify_all()

    def shut(self, patience_s: float) -> None:
        """Let no thread in, and wait up to `patience_s` for those inside."""
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(
                lambda: self._forker in (None, me), patience_s
            )  # another thread forks as well
            self._forker = me  # the forking thread may still open and close
            self._changed.wait_for(lambda: not self._inside, patience_s)

    def open(self) -> None:
        """Let all threads in again."""
        with self._changed:
            self._forker = None
            self._changed.notify_all()

    def begin_anew(self) -> None:
        """Reset in a child: threads of the parent may have been inside."""
        self._changed = threading.Condition()
        self._inside: Counter[int] = Counter()
        """Number of entries by thread."""
        self._forker = None


gate = ForkGate()
_held: set[Held] = set()
_inherited: set[FileIdentity] = set()
_abandoned: set[FileIdentity] = set()


def remember(held: Held) -> None:
    """Register an open connection."""
    _held.add(held)


def remembered() -> list[Held]:
    """All open connections."""
    return list(_held)


def forget(held: Held) -> None:
    """Unregister a closed connection."""
    _held.discard(held)


def refuse_inherited(identity: FileIdentity | None, location: str) -> None:
    """Raise StoreError if a thread was using this file when this process was forked: its locks cannot work here."""
    if identity in _inherited:
        raise StoreError(
            location,
            "was being used by another thread when this process was forked, so SQLite cannot lock it here; fork when the"
            " store is idle, or start the process in another way (multiprocessing's spawn, subprocess)",
        )


def abandon(connection: object, identity: FileIdentity | None) -> None:
    """Keep a connection whose log was deleted: closing it may write to the file.

    While it is open, SQLite would lend what it knows of the old log to any other connection of this process to that file.
    """
    try:
        keep_for_ever(connection)
    except ImportError:  # the interpreter is ending: no more modules
        cycle: list[object] = [connection]
        cycle.append(cycle)
        gc.freeze()  # the last collections pass over it
    if identity is not None:
        _abandoned.add(identity)


def refuse_abandoned(identity: FileIdentity | None, location: str) -> None:
    """Raise StoreVanished if a connection to this file was abandoned."""
    if identity in _abandoned:
        text = (
            "its log was deleted while this process used it; once the file is in order, start the process anew"
        )
        raise StoreVanished(location, text)


def keep_for_ever(connection: object) -> None:
    """Keep a connection from being finalised, also by the interpreter's own clean-up: by an extra reference."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _before() -> None:
    until = time.monotonic() + _PATIENCE_S
    gate.shut(_PATIENCE_S)
    for held in list(_held):
        if held.use.acquire(timeout=max(0.0, until - time.monotonic())):
            try:
                _held.discard(held)
                held.close()
            except StoreError:
                continue  # it is closed anyway, and commits are not affected
            finally:
                held.use.release()


def _in_parent() -> None:
    gate.open()


def _in_child() -> None:
    gate.begin_anew()
    # These were in use by another thread. They must not even be finalised: closing one may checkpoint, delete the log or
    # drop the parent's locks.
    for held in _held:
        keep_for_ever(held.connection)
        if held.identity is not None:
            _inherited.add(held.identity)
    _held.clear()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)

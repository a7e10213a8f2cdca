"""Forks: no connection of ours lives through one. Effects: before each fork of this process, closes those it has open.

SQLite keeps a table of the locks its process has on each open file. A child inherits the table but not the locks, so what
it opens then is not locked: whoever else closes last takes the log away from under it, and what it writes from then on
is gone with the log (seen: an acknowledged job lost). And a lock that another thread has at that moment is held for
ever. A file that nobody has open has no entry in the table; so all are closed first, and opened again when they are used.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from typing import Protocol

from mpdispatch.errors import StoreError

__all__ = ["ForkGate", "forget", "gate", "refuse_inherited", "remember", "remembered"]

_PATIENCE_S = 1.0
"""How long a fork waits for threads that are using the store. A transaction takes milliseconds."""

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
        """Taken by whoever uses the connection."""
        ...

    def close(self) -> None: ...


class ForkGate:
    """Entered by whoever opens or closes a connection: not while this process forks. Threads do not keep each other out."""

    def __init__(self) -> None:
        self._forker: int | None = None
        self.begin_anew()

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._changed:
            # Whoever is inside already is waited for, so may go further in.
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
        """Let nobody in any more, and wait so long for those inside."""
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(
                lambda: self._forker in (None, me), patience_s
            )  # another thread forks as well
            self._forker = me  # it may open and close what it likes
            self._changed.wait_for(lambda: not self._inside, patience_s)

    def open(self) -> None:
        """Let everybody in again."""
        with self._changed:
            self._forker = None
            self._changed.notify_all()

    def begin_anew(self) -> None:
        """In a child: threads of the parent may have been inside."""
        self._changed = threading.Condition()
        self._inside: Counter[int] = Counter()
        """Threads, each as many times as it has entered."""
        self._forker = None


gate = ForkGate()
_held: set[Held] = set()
_inherited: set[FileIdentity] = set()


def remember(held: Held) -> None:
    """This connection is open now."""
    _held.add(held)


def remembered() -> list[Held]:
    """Those that are open."""
    return list(_held)


def forget(held: Held) -> None:
    """It is closed."""
    _held.discard(held)


def refuse_inherited(identity: FileIdentity | None, location: str) -> None:
    """Raise StoreError if this process was forked while a thread was using this file: it can never be locked here."""
    if identity in _inherited:
        raise StoreError(
            location,
            "was being used by another thread when this process was forked, so SQLite cannot lock it here; fork when the"
            " store is idle, or start the process in another way (multiprocessing's spawn, subprocess)",
        )


def _before() -> None:
    until = time.monotonic() + _PATIENCE_S
    gate.shut(_PATIENCE_S)
    for held in list(_held):
        if held.use.acquire(timeout=max(0.0, until - time.monotonic())):
            try:
                _held.discard(held)
                held.close()
            except StoreError:
                continue  # it is closed all the same, and what was committed is committed
            finally:
                held.use.release()


def _in_parent() -> None:
    gate.open()


def _in_child() -> None:
    gate.begin_anew()
    # Those another thread was using. One must not even be finalised: closing it may checkpoint, delete the log or drop
    # locks behind the parent's back. One reference too many outlives the interpreter's own clean-up.
    if _held:
        import ctypes

        for held in _held:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(held.connection))
            if held.identity is not None:
                _inherited.add(held.identity)
        _held.clear()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)

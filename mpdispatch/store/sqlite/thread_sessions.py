"""One session per thread of a process, opened on first use, closed with its thread. Any thread, also after a fork."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import TypeVar

from mpdispatch import sqlite3
from mpdispatch.errors import StoreError
from mpdispatch.store.sql.sessions import Flush
from mpdispatch.store.sqlite import forks
from mpdispatch.store.sqlite.connection import Session, SessionClosed
from mpdispatch.store.sqlite.database import CLIENT_PATIENCE_S, Database

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_ONCE_RELEASED = Flush.ONCE_RELEASED
_PATIENCE_S = 1.0


class ThreadSessions:
    """The sessions of a store's clients in this process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._threads = threading.local()
        self._opened, self._opened_lock = weakref.WeakSet[Session](), threading.Lock()

    def current(self, *, create: bool = False) -> Session:
        """The calling thread's session. `create`: create the store, or migrate it, if that is needed."""
        held: _Held | None = getattr(self._threads, "held", None)
        if held is not None:
            session = held.session
            if session.pid == os.getpid() and not session.is_broken:
                return session
            held.close()
        session = self._database.open(patience_s=CLIENT_PATIENCE_S, create=create)
        self._threads.held = _Held(self._database, session)
        # Not while this process forks: the child would inherit a locked lock.
        with forks.gate, self._opened_lock:
            self._opened.add(session)
        return session

    def opened(self) -> list[Session]:
        """The sessions of all threads."""
        with forks.gate, self._opened_lock:
            return list(self._opened)

    def _call(self, act: Callable[[Session], T], *, create: bool = False) -> T:
        while True:
            try:  # suppress() would cost each enqueue 1 µs
                return act(self.current(create=create))
            except SessionClosed:
                continue  # by a fork, or by `close_all` in another thread

    def read(self, work: Work[T]) -> T:
        return self._call(lambda session: session.read(work))

    def write(self, work: Work[T], point: str, *, flush: Flush = Flush.IN_COMMIT) -> T:
        return self._call(lambda session: session.write(work, point=point, flush=flush))

    def create(self, work: Work[T], point: str, *, flush: Flush = Flush.IN_COMMIT) -> T:
        """As `write`; creates the store, or migrates it, if that is needed."""
        return self._call(lambda session: session.write(work, point=point, flush=flush), create=True)

    def write_jobs(
        self,
        work: Work[T],
        wake: Callable[[], None],
        *,
        is_one_statement: bool = False,
        is_synced: bool = True,
    ) -> T:
        """Write new jobs. Supervisors are woken at once and may start the jobs while the disk still works."""
        flush = _ONCE_RELEASED if is_synced else Flush.LATER
        while True:
            try:  # not by `_call`, whose closure would cost each enqueue 0.3 µs
                return self.current(create=True).write(
                    work, point="enqueue", flush=flush, is_one_statement=is_one_statement, on_commit=wake
                )
            except SessionClosed:
                continue

    def sync(self) -> None:
        self._call(lambda session: session.sync())

    def close(self) -> None:
        """Close this thread's session, unless it is in use and this is called from a signal handler."""
        held: _Held | None = getattr(self._threads, "held", None)
        if held is not None and not held.session.is_used_here():
            self._threads.held = None
            held.close()

    def close_all(self) -> None:
        """Close the sessions of all threads, except those that stay in use for a second."""
        self.close()
        until = time.monotonic() + _PATIENCE_S
        for session in self.opened():
            # Enter the gate first, as everywhere: a fork and a closing thread must not wait for each other.
            with forks.gate:
                if session.is_used_here() or not session.use.acquire(
                    timeout=max(0.0, until - time.monotonic())
                ):
                    continue
                try:
                    self._database.close(session)
                except StoreError:
                    continue  # it is closed anyway, and commits are not affected
                finally:
                    session.use.release()


class _Held:
    """A thread's session; closed with the thread."""

    __slots__ = ("_database", "session")

    def __init__(self, database: Database, session: Session) -> None:
        self._database, self.session = database, session

    def close(self) -> None:
        self._database.close(self.session)

    def __del__(self) -> None:
        # At the interpreter's end, a daemon thread that was using it has stopped for good, and keeps it.
        if sys.is_finalizing() and not self.session.use.acquire(blocking=False):
            return
        # Nothing could handle an error here; a failing close does not affect commits.
        with contextlib.suppress(StoreError, *sqlite3.ERRORS):
            self.close()

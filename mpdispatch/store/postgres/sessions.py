"""Sessions of a store's clients, kept and shared by the threads of a process; and the one of a supervisor. Effects.

A session is opened when none is free, up to `pool_size`, and kept for the next call: last given back, first taken. A
forked child begins with none. A call whose server is lost tries again for 30 s; a supervisor's raises at once.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from mpdispatch.errors import DispatchError, StoreBusy, StoreError, StoreUnreachable, UsageError
from mpdispatch.store.postgres.patience import Patience, Reconnects
from mpdispatch.store.postgres.server import Database
from mpdispatch.store.postgres.session import CommitUnknown, ConnectionLost, Session
from mpdispatch.store.sql.connection import Work
from mpdispatch.store.sql.sessions import Flush

T = TypeVar("T")

CLIENT_PATIENCE_S = 30.0
SUPERVISOR_LOCK_S = 0.05
SUPERVISOR_PATIENCE_S = 10.0
"""Until a supervisor's call takes a silent server for lost. Its loop goes on meanwhile, and so does its lease logic."""
_MORE_S = 1.0
"""A lock is waited for until then, and its refusal is still heard."""
_IDLE_S = 60.0
"""A session that nobody has used for so long is closed, when another one is given back."""
_CLOSE_S = 1.0


class ClientSessions:
    """Any thread, also after a fork. A call waits up to 30 s, then raises StoreBusy or StoreUnreachable."""

    def __init__(self, database: Database, *, patience_s: float = CLIENT_PATIENCE_S) -> None:
        self._database, self._patience_s = database, patience_s
        self._threads = threading.local()
        self._begin_anew()

    def _begin_anew(self) -> None:
        """With no session: at first, and in a forked child, where another thread may have held the lock."""
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._idle = list[Session]()
        self._count = 0
        self._in_use = set[Session]()

    # -- calls ----------------------------------------------------------------------------------

    def read(self, work: Work[T]) -> T:
        return self._call(lambda session, _: session.read(work))

    def write(self, work: Work[T], point: str, *, flush: Flush = Flush.IN_COMMIT) -> T:
        return self._write(work, point, flush, None, create=False)

    def create(self, work: Work[T], point: str, *, flush: Flush = Flush.IN_COMMIT) -> T:
        """As `write`; creates the store, or migrates it, if that is needed."""
        return self._write(work, point, flush, None, create=True)

    def write_jobs(
        self,
        work: Work[T],
        wake: Callable[[], None],
        *,
        is_one_statement: bool = False,
        is_synced: bool = True,
    ) -> T:
        """Write new jobs. Supervisors are woken at once and may start the jobs while the disk still works.

        `is_one_statement`: the work is repeated if its outcome is unknown, and must then find what it has done.
        """
        if not is_one_statement:
            flush = Flush.ONCE_RELEASED if is_synced else Flush.LATER
            return self._write(work, "enqueue", flush, wake, create=True)

        def act(session: Session, _: Patience) -> T:
            return session.alone(work, point="enqueue", waits=is_synced, on_commit=wake)

        return self._call(act, create=True)

    def sync(self) -> None:
        self._call(lambda session, _: session.sync())

    def check(self, *, create: bool) -> None:
        """Open a session, and ask the server for a sign of life."""
        self._call(lambda session, _: session.check(), create=create)

    def _write(
        self, work: Work[T], point: str, flush: Flush, on_commit: Callable[[], None] | None, *, create: bool
    ) -> T:
        def act(session: Session, patience: Patience) -> T:
            lock_s = max(0.001, patience.left_s())
            return session.write(work, point=point, lock_s=lock_s, flush=flush, on_commit=on_commit)

        patience = Patience(self._patience_s)
        while True:
            try:
                return self._call(act, patience, create=create)
            except CommitUnknown as unknown:
                if self._was_committed(unknown, patience):
                    result: T = unknown.result
                    if on_commit is not None:
                        on_commit()
                    return result

    def _was_committed(self, unknown: CommitUnknown, patience: Patience) -> bool:
        def act(session: Session, patience: Patience) -> bool:
            found = session.was_committed(unknown, lock_s=max(0.001, patience.left_s()))
            session.sync()  # it may have been committed without
            return found

        try:
            return self._call(act, patience)
        except (StoreBusy, StoreUnreachable) as error:
            raise StoreUnreachable(
                self._database.location,
                "the connection was lost during a commit, and nobody says whether it was carried out: look before you"
                f" do it again ({error.detail})",
            ) from error

    def _call(
        self, act: Callable[[Session, Patience], T], patience: Patience | None = None, *, create: bool = False
    ) -> T:
        """Call `act` with a session, again with another one if that one was lost before anything was written."""
        if getattr(self._threads, "session", None) is not None:
            raise UsageError(
                "the store was called while this very thread was using it: from a signal handler or a"
                " finaliser, which should leave a note and let the main program enqueue"
            )
        patience = patience or Patience(self._patience_s)
        while True:
            try:
                session = self._take(patience, create=create)
                self._threads.session = session
                try:
                    return act(session, patience)
                finally:
                    self._threads.session = None
                    self._give_back(session)
            except ConnectionLost:
                # Those left may be of the same server that went away: the next one is new.
                self.close_idle()
                if not patience.pause():
                    raise

    # -- the pool -------------------------------------------------------------------------------

    def _take(self, patience: Patience, *, create: bool) -> Session:
        """A session for this thread alone. Raises StoreBusy: all are in use for too long; StoreError."""
        if self._pid != os.getpid():
            self._begin_anew()
        session = self._kept(patience)
        if session is None:
            try:
                session = self._database.open(patience_s=max(_MORE_S, patience.left_s()), create=create)
            except BaseException:
                self._forget_one()
                raise
        session.wire.until_s = patience.until_s + _MORE_S
        with self._changed:
            self._in_use.add(session)
        return session

    def _kept(self, patience: Patience) -> Session | None:
        """A free session, or None: one may be opened, and counts already."""
        with self._changed:
            while True:
                while self._idle:
                    session = self._idle.pop()
                    if session.is_open and session.wire.is_quiet():
                        return session
                    session.close()
                    self._count -= 1
                if self._count < self._database.place.options.pool_size:
                    self._count += 1
                    return None
                if not self._changed.wait(patience.left_s()):
                    raise StoreBusy(
                        self._database.location,
                        f"all {self._count} connections of this process are in use; pool_size says how many may be",
                    )

    def _forget_one(self) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify()

    def _give_back(self, session: Session) -> None:
        if session.pid != os.getpid():
            return
        now_s = time.monotonic()
        with self._changed:
            self._in_use.discard(session)
            old = [each for each in self._idle if now_s - each.used_s > _IDLE_S]
            for each in old:
                self._idle.remove(each)
                self._count -= 1
            if session.is_open and session.is_kept:
                session.used_s = now_s
                self._idle.append(session)
            else:
                self._count -= 1
                old.append(session)
            self._changed.notify()
        for each in old:
            each.close()

    def notify(self, channel: str, *, opens: bool) -> bool:
        """NOTIFY this channel, without waiting for the answer. A hint: never raises.

        False: no session is free, and none was opened. `opens`: one may be, which waits for the server.
        """
        session: Session | None = getattr(self._threads, "session", None)
        if session is not None:
            session.notify(channel)
            return True
        try:
            found = self._take(Patience(0.0), create=False) if opens else self._free()
        except DispatchError:
            return False
        if found is None:
            return False
        try:
            found.notify(channel)
        finally:
            self._give_back(found)
        return True

    def _free(self) -> Session | None:
        """A session that nobody uses, for this thread alone."""
        if self._pid != os.getpid():
            self._begin_anew()
        with self._changed:
            if not self._idle:
                return None
            session = self._idle.pop()
            self._in_use.add(session)
            return session

    # -- the end --------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the sessions that no thread is using. The next call opens one."""
        self.close_idle()

    def close_idle(self) -> None:
        if self._pid != os.getpid():
            self._begin_anew()
        with self._changed:
            idle, self._idle = self._idle, []
            self._count -= len(idle)
            self._changed.notify_all()
        for session in idle:
            session.close()

    def close_all(self) -> None:
        """Close all sessions: those in use once they are given back. Waits up to a second for that."""
        self.close_idle()
        until_s = time.monotonic() + _CLOSE_S
        with self._changed:
            for session in self._in_use:
                session.is_kept = False
            mine = getattr(self._threads, "session", None)
            self._changed.wait_for(lambda: self._in_use <= {mine}, timeout=max(0.0, until_s - time.monotonic()))


class SupervisorSession:
    """The session of a supervisor. One thread at a time; opened on first use, and again once it was lost.

    A call waits up to 50 ms for the lock, then raises StoreBusy; for a silent server 10 s, then StoreUnreachable. After
    that it raises at once for growing, jittered times.
    """

    def __init__(self, database: Database, *, patience_s: float = SUPERVISOR_PATIENCE_S) -> None:
        self._database = database
        self.patience_s = patience_s
        self._session: Session | None = None
        self._reconnects = Reconnects()

    def _current(self) -> Session:
        session = self._session
        if session is None or not session.is_open or session.pid != os.getpid():
            self._reconnects.refuse_early()
            try:
                session = self._session = self._database.open(patience_s=self.patience_s, create=False)
            except StoreError as error:
                self._reconnects.failed(error)
                raise
            self._reconnects.succeeded()
        session.wire.until_s = time.monotonic() + self.patience_s
        return session

    def read(self, work: Work[T]) -> T:
        return self._current().read(work)

    def write(self, work: Work[T], point: str, *, flush: Flush = Flush.IN_COMMIT) -> T:
        """As `ClientSessions.write`. Raises CommitUnknown as well: `was_committed` says later what came of it."""
        return self._current().write(work, point=point, lock_s=SUPERVISOR_LOCK_S, flush=flush)

    def was_committed(self, unknown: CommitUnknown) -> bool:
        """Whether the server has committed that; if not, it never will. Raises StoreBusy, StoreError."""
        session = self._current()
        found = session.was_committed(unknown, lock_s=SUPERVISOR_LOCK_S)
        session.sync()
        return found

    def sync(self) -> None:
        """Make everything committed so far survive a power cut."""
        self._current().sync()

    def notify(self, channel: str) -> None:
        """NOTIFY this channel without waiting. A hint: never raises, and opens no connection."""
        if self._session is not None and self._session.is_open and self._session.pid == os.getpid():
            self._session.notify(channel)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

"""One connection with its write lock: every transaction of ours goes through `Session.write`.

Always BEGIN IMMEDIATE: a transaction that reads first and writes later may get SQLITE_BUSY_SNAPSHOT, and waiting does
not help. While holding our lock we never wait for SQLite's own: on BUSY we release ours, pause and try again.
"""

from __future__ import annotations

import errno
import functools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from mpdispatch import sqlite3
from mpdispatch.errors import (
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreIOError,
    StorePermission,
    StoreVanished,
    UsageError,
)
from mpdispatch.failpoints import failpoint
from mpdispatch.private import NotPrivateError
from mpdispatch.store.sql.sessions import Flush
from mpdispatch.store.sql.text import lenient_text
from mpdispatch.store.sqlite import forks
from mpdispatch.store.sqlite.lock import Pauses, WriteLock
from mpdispatch.store.sqlite.room import BY_ERRNO, diagnosed
from mpdispatch.store.sqlite.text import is_bad_text
from mpdispatch.store.sqlite.wal import Log

P = ParamSpec("P")
T = TypeVar("T")

BUSY_TIMEOUT_MS = 20

# Errors of opening the lock file; ELOOP: a symlink in its place.
_BY_ERRNO = {**BY_ERRNO, errno.ELOOP: StorePermission, errno.ENOTDIR: StorePermission}

_VERIFY_LOG_EVERY_S = 1.0
"""It costs 2 us, and an enqueue 30."""

FileIdentity = tuple[int, int]


_ONCE_RELEASED = Flush.ONCE_RELEASED  # the name of an enum's member costs 0.1 us to look up


class SessionClosed(StoreBusy):
    """Another thread has closed this connection for a fork (see `forks`) or `close_all`: open another."""


def identity_of(path: str | Path) -> FileIdentity | None:
    """(st_dev, st_ino) of the file now at `path`, or None. A stat, never an open."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Session:
    """A connection of one thread. `path` is None for `:memory:`, whose lock also guards reads."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        lock: WriteLock,
        *,
        location: str,
        path: Path | None,
        identity: FileIdentity | None,
        patience_s: float,
        flushes: bool,
    ) -> None:
        """`flushes`: commits wait for the disk by default."""
        self.connection = connection
        self.location, self.path = location, path
        self.pid = os.getpid()
        self.is_broken = False
        """True after an I/O error: the state on disk is unknown, so open a new connection."""
        self.is_closed = self._is_writing = False
        self.use = threading.RLock()
        """Held while the connection is in use, by its own thread or by one that closes it before a fork."""
        self._lock = lock
        self.identity = identity
        # As text: a stat of a Path costs twice as much, and every commit does two.
        self._path_text = str(path)
        self._patience_s, self._flushes, self._is_flushing = patience_s, flushes, flushes
        self._log = Log(connection, path)
        self._verify_log_at = 0.0

    def is_used_here(self) -> bool:
        """Whether the calling thread is already using it: for calls from a signal handler or a finaliser."""
        return bool(self.use._is_owned())  # type: ignore[attr-defined]  # as threading.Condition asks; not in typeshed

    # -- transactions ---------------------------------------------------------------------------

    def write(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        point: str,
        checkpoint: bool = True,
        flush: Flush = Flush.IN_COMMIT,
        is_one_statement: bool = False,
        on_commit: Callable[[], None] | None = None,
    ) -> T:
        """Run `work` inside one transaction and return its result. `work` may run more than once.

        Waits for the lock up to the session's patience, then raises StoreBusy. After a StoreIOError of a flush it is
        unknown whether the commit lasts. `is_one_statement`: `work` is a single INSERT, UPDATE or DELETE, which SQLite
        runs as its own transaction that begins like BEGIN IMMEDIATE, saving two statements. `on_commit` is called as
        soon as others can see the commit.
        """
        with self.use:
            self._refuse_if_closed()
            if self._is_writing:
                raise UsageError(
                    "the store was called while this very thread was writing to it: from a signal handler or a"
                    " finaliser, which should leave a note and let the main program enqueue"
                )
            try:
                self._is_writing = True
                begun = functools.partial(self._alone if is_one_statement else self._transaction, work, point)
                if flush is not _ONCE_RELEASED or not self._flushes:
                    synced = flush is Flush.IN_COMMIT
                    return self.locked(self._committed, begun, point, checkpoint, synced, None, on_commit)
                self._flush_with(self._log.prepare_flush)
                result = self.locked(
                    self._committed, begun, point, checkpoint, False, self._log.begin_flush, on_commit
                )
                self._flush_with(self._log.flush)
                return result
            finally:
                self._is_writing = False

    def _refuse_if_closed(self) -> None:
        if self.is_closed:
            raise SessionClosed(self.location)

    def _committed(
        self,
        transaction: Callable[[], T],
        point: str,
        checkpoint: bool,
        synced: bool,
        begin_flush: Callable[[], None] | None,
        on_commit: Callable[[], None] | None,
    ) -> T:
        """Under the lock: run one transaction, and what follows its commit."""
        if self.connection.in_transaction:
            # An interrupt prevented the rollback: writes in this old transaction would never be committed.
            self._roll_back()
        if self._flushes and synced is not self._is_flushing:
            self._flush_commits(synced)
        try:
            result = transaction()
        except sqlite3.ERRORS as error:
            if not is_bad_text(error):
                raise
            with lenient_text(self.connection):
                result = transaction()
        if on_commit is not None:
            on_commit()
        if begin_flush is not None:
            begin_flush()
        # After the commit, not before: a file deleted between a check and the commit would be acknowledged.
        self.verify()
        failpoint(f"{point}.after_commit")
        if checkpoint and self._log.is_due():
            self._checkpoint()
        return result

    def _flush_commits(self, wanted: bool) -> None:
        """Set whether commits wait for the disk. In WAL mode NORMAL only omits the fsync of commits."""
        self._is_flushing = False  # first, since an interrupt may come between the two
        self.connection.execute(f"PRAGMA synchronous = {'FULL' if wanted else 'NORMAL'}")
        self._is_flushing = wanted

    def sync(self) -> None:
        """Make all commits so far survive a power cut, by flushing the log."""
        with self.use:
            self._refuse_if_closed()
            self._flush_with(self._log.flush)

    def _flush_with(self, step: Callable[[], None]) -> None:
        if not self._flushes:
            return
        try:
            step()
        except OSError as error:
            self.is_broken = True
            self.verify()  # the log is deleted with its database
            raise StoreIOError(self.location, f"cannot flush its log: {error.strerror}") from error

    def locked(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `work` under the write lock, repeatedly while SQLite reports BUSY, and return its result."""
        until = time.monotonic() + self._patience_s
        pauses: Pauses | None = None
        while True:
            if not self._acquire(until):
                raise StoreBusy(self.location)
            try:
                return work(*args, **kwargs)
            except sqlite3.ERRORS as error:
                problem = self._fail(error)
                if not isinstance(problem, StoreBusy):
                    raise problem from error
            finally:
                self._lock.release()
            pauses = pauses or Pauses()
            if not pauses.sleep(until):
                raise problem

    def _acquire(self, until: float) -> bool:
        try:
            return self._lock.acquire(until)
        except NotPrivateError as error:
            raise StorePermission(self.location, f"its lock file cannot be trusted: {error}") from error
        except OSError as error:
            kind = _BY_ERRNO.get(error.errno or 0, StoreIOError)
            raise kind(self.location, f"its lock file: {error}") from error

    def _transaction(self, work: Callable[[sqlite3.Connection], T], point: str) -> T:
        execute = self.connection.execute
        try:
            # Inside the `try`: an interrupt during the statement is raised right after it.
            execute("BEGIN IMMEDIATE")
            result = work(self.connection)
            failpoint(f"{point}.before_commit")
            execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        return result

    def _alone(self, work: Callable[[sqlite3.Connection], T], point: str) -> T:
        failpoint(f"{point}.before_commit")
        return work(self.connection)

    def _roll_back(self) -> None:
        # After a full disk or an I/O error, SQLite has already rolled back.
        if self.connection.in_transaction:
            try:
                self.connection.execute("ROLLBACK")
            except sqlite3.ERRORS:
                self.is_broken = True

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` and return its result. Several statements in it do not share a snapshot."""
        with self.use:
            self._refuse_if_closed()
            return self._read(work)

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        until = time.monotonic() + self._patience_s
        pauses = Pauses()
        if self._patience_s > 0:
            self._log.step_aside()
        while True:
            try:
                if self.path is not None:
                    return self._looked(work)
                if not self._acquire(until):
                    raise StoreBusy(self.location)
                try:
                    return self._looked(work)
                finally:
                    self._lock.release()
            except sqlite3.ERRORS as error:
                problem = self._fail(error)
                # Reads of a WAL database are refused only briefly (recovery, close of the last connection).
                if not isinstance(problem, StoreBusy) or not pauses.sleep(until):
                    raise problem from error

    def _looked(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return work(self.connection)
        except sqlite3.ERRORS as error:
            if not is_bad_text(error):
                raise
            # One row's text is not UTF-8: retry to show the other rows. Not always, as this factory is slow.
            with lenient_text(self.connection):
                return work(self.connection)

    def _fail(self, error: sqlite3.Error) -> Exception:
        problem = diagnosed(error, self.location, self.path)
        if isinstance(problem, StoreIOError | StoreCorrupt):
            self.is_broken = True
        return problem

    def verify(self) -> None:
        """Raise StoreVanished if the file at the path is gone or another one, or its log is gone (seen within 1 s)."""
        if self.path is None:
            return
        now = time.monotonic()
        if identity_of(self._path_text) == self.identity:
            if now < self._verify_log_at:
                return
            self._verify_log_at = now + _VERIFY_LOG_EVERY_S
            if not self._log.is_gone():
                return
        self.is_broken = True
        raise StoreVanished(self.location)

    # -- the write-ahead log --------------------------------------------------------------------

    def uses_log(self) -> None:
        """Call this once the connection has read the database in WAL mode."""
        self._log.used()

    def checkpoint_if_large(self) -> None:
        """Checkpoint the WAL if it has grown large and nobody is writing."""
        with self.use:
            self._refuse_if_closed()
            if self._log.is_due() and self._acquire(0.0):
                try:
                    self._checkpoint()
                finally:
                    self._lock.release()

    def checkpoint(self, *, truncate: bool = False) -> None:
        """Checkpoint the WAL if nobody is writing; with `truncate` also empty it, if nobody is reading."""
        with self.use:
            self._refuse_if_closed()
            if self._acquire(time.monotonic() + min(self._patience_s, 1.0)):
                try:
                    self._checkpoint(truncate=truncate)
                finally:
                    self._lock.release()

    def _checkpoint(self, *, truncate: bool = False) -> None:
        self._verify_log_at = 0.0
        self.verify()
        try:
            self._log.checkpoint(truncate=truncate)
        except sqlite3.ERRORS as error:
            # Commits are not affected: a failed checkpoint is tried again later, but an I/O error is remembered.
            self._fail(error)

    # -- the end --------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connection; not in a forked child, where closing would drop the parent's locks.

        An in-memory database stays open: its connection belongs to the database, not to a session.
        """
        if self.pid != os.getpid() or self.path is None or self.is_closed:
            return
        self.is_closed = self.is_broken = True
        if self._log.is_gone() and identity_of(self._path_text) == self.identity:
            # Closing may checkpoint, and so write pages of the old file over one that was copied into its place. If the
            # file itself is gone or replaced, SQLite sees that.
            forks.abandon(self.connection, self.identity)
            self._log.close()
            self._lock.close()
            return
        self._log.close()
        # The last connection checkpoints when it closes, so this needs the lock. If another holds the lock, it has a
        # connection and ours is not the last: closing without the lock is harmless. A file that is not a store has
        # no lock, and nothing is created beside it.
        held = False
        try:
            held = self.path.exists() and self._lock.is_there() and self._lock.acquire(time.monotonic() + 0.5)
        except OSError:
            # The side folder cannot be opened; so none of our processes can hold its lock either.
            held = False
        try:
            self.connection.close()
        except sqlite3.ERRORS as error:
            problem = diagnosed(error, self.location, self.path)
            if isinstance(problem, StoreError):
                raise problem from error
            raise
        finally:
            if held:
                self._lock.release()
            self._lock.close()

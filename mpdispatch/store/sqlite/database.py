"""A store's database, in a file or in this process's memory, and connections to it."""

from __future__ import annotations

import os
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Protocol

from mpdispatch import sqlite3
from mpdispatch.errors import StoreBusy, StoreError, StoreForeign, StoreNotShared, StoreTooNew
from mpdispatch.private import folder_beside
from mpdispatch.store.sqlite import connect, forks, schema
from mpdispatch.store.sqlite.connection import FileIdentity, Session, identity_of
from mpdispatch.store.sqlite.lock import FileLock, MemoryLock, Pauses
from mpdispatch.store.sqlite.options import FileOptions

CLIENT_PATIENCE_S = 30.0


class Database(Protocol):
    @property
    def location(self) -> str: ...

    @property
    def path(self) -> Path | None: ...

    @property
    def is_shared(self) -> bool:
        """Whether it is an application's own file, with its tables too."""
        ...

    def open(self, *, patience_s: float, create: bool) -> Session:
        """A session for the calling thread, with the schema up to date."""
        ...

    def close(self, session: Session) -> None: ...

    def migrate(self) -> tuple[int, int]: ...


class FileDatabase:
    def __init__(self, path: str, options: FileOptions) -> None:
        self._given = path
        self.options = options

    @property
    def location(self) -> str:
        """The path, or a URL if an option differs from its default."""
        return self.options.location(self._given)

    @property
    def is_shared(self) -> bool:
        return self.options.shared

    @cached_property
    def path(self) -> Path:
        """Resolved once: two names of the file would mean two names of its WAL."""
        return Path(os.path.realpath(self._given))

    @cached_property
    def side_dir(self) -> Path:
        return folder_beside(self.path)

    def open(self, *, patience_s: float, create: bool) -> Session:
        with forks.gate, self._connected(patience_s, create=create) as session:
            found = session.read(lambda connection: schema.version_of(connection, self.location))
            if create and found != schema.VERSION:
                _, found = self._migrate(session)
            schema.refuse_unusable(found, self.location, is_shared=self.is_shared)
            self._use_wal(session)
            session.uses_log()
            return session

    def migrate(self) -> tuple[int, int]:
        with forks.gate, self._connected(CLIENT_PATIENCE_S, create=True) as session:
            try:
                return self._migrate(session)
            finally:
                self.close(session)

    @contextmanager
    def _connected(self, patience_s: float, *, create: bool) -> Iterator[Session]:
        """Open a session for the block; close it if the block fails."""
        session = self._connect(patience_s, create=create)
        try:
            yield session
        except BaseException:
            self.close(session)
            raise
        finally:
            session.use.release()

    def _connect(self, patience_s: float, *, create: bool) -> Session:
        connect.refuse_network(self.path, self.location)
        until = time.monotonic() + patience_s
        pauses = Pauses()
        while True:
            if create:
                connect.create_file(self.path, self.location)
            identity = identity_of(self.path)
            forks.refuse_inherited(identity, self.location)
            forks.refuse_abandoned(identity, self.location)
            self._refuse_two_copies(identity)
            try:
                connection = connect.connect_file(self.path, self.location, self.options)
            except StoreBusy:
                # Even settings are refused while another process switches the file to WAL or recovers it.
                if not pauses.sleep(until):
                    raise
                continue
            session = Session(
                connection,
                FileLock(self.side_dir, queue=patience_s >= 1),
                location=self.location,
                path=self.path,
                identity=identity,
                patience_s=patience_s,
                flushes=self.options.durability != "process",
            )
            session.use.acquire()
            forks.remember(session)
            if identity_of(self.path) == identity:
                return session
            # The file was replaced while we opened it: we may have either one.
            self.close(session)
            session.use.release()

    def close(self, session: Session) -> None:
        if session.pid == os.getpid():
            with forks.gate, session.use:
                forks.forget(session)
                session.close()

    def _migrate(self, session: Session) -> tuple[int, int]:
        found = session.read(lambda connection: schema.version_of(connection, self.location))
        self._refuse_to_touch(found)
        if found == schema.VERSION:
            return found, found
        # Import before taking the lock, so that others do not wait for the import.
        import sqlite_utils.migrations  # noqa: F401

        self._use_wal(session)
        before, after = session.write(self._bring_up_to_date, point="migrate")
        if 0 < before < after:
            import logging

            logging.getLogger(__name__).info(
                "%s: schema version %d is now %d; an older mpdispatch refuses it", self.location, before, after
            )
        return before, after

    def _bring_up_to_date(self, connection: sqlite3.Connection) -> tuple[int, int]:
        # Check again under the lock: seven of eight concurrent processes find it done.
        found = schema.version_of(connection, self.location)
        self._refuse_to_touch(found)
        if found != schema.VERSION:
            schema.apply(connection, found, self.location, is_new_file=found == 0 and not self.is_shared)
        return found or 0, schema.VERSION

    def _refuse_two_copies(self, identity: FileIdentity | None) -> None:
        ours = self.options.copy
        for session in forks.remembered():
            if session.identity == identity and (theirs := sqlite3.copy_of(session.connection)) != ours:
                raise StoreError(
                    self.location,
                    f"is open in this process by {theirs} already, and {ours} was to open it again; two copies of"
                    f" SQLite on one file in one process corrupt it: SQLiteStore(..., copy={theirs!r})",
                )

    def _use_wal(self, session: Session) -> None:
        mode = session.read(_journal_mode)
        if mode == "wal":
            return
        # This affects the other users of an application's file: warn or refuse.
        if self.is_shared and session.read(_page_count):
            if not self.options.switch_to_wal:
                raise StoreError(
                    self.location,
                    f"its journal mode is {mode}, and mpdispatch needs write-ahead logging; run"
                    " `PRAGMA journal_mode=WAL` on it, or allow that with switch_to_wal=True",
                )
            warnings.warn(
                f"{self.location}: its journal mode is switched from {mode} to WAL, for every program that uses"
                " this database; switch_to_wal=False refuses that",
                UserWarning,
                stacklevel=2,
            )
        session.locked(lambda: _switch_to_wal(session, is_own=not self.is_shared))

    def _refuse_to_touch(self, found: int | None) -> None:
        if found is None and not self.is_shared:
            raise StoreForeign(self.location)
        if found is not None and found > schema.VERSION:
            raise StoreTooNew(self.location, found, schema.VERSION)


def _journal_mode(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def _page_count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA page_count").fetchone()[0])


def _switch_to_wal(session: Session, *, is_own: bool) -> None:
    if is_own and not _page_count(session.connection):
        # Only possible before the first page: free pages can later be given back to the disk (see `shrink`).
        session.connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    mode = session.connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreError(session.location, f"cannot be switched to write-ahead logging; SQLite stays at {mode}")


class MemoryDatabase:
    """One connection and one lock for all threads of this process."""

    location = ":memory:"
    path = None
    is_shared = False

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._opening = threading.Lock()
        self._lock = MemoryLock()
        self._connection: sqlite3.Connection | None = None

    def open(self, *, patience_s: float, create: bool) -> Session:
        if self._pid != os.getpid():
            raise StoreNotShared(self.location)
        with self._opening:
            connection = self._connection
            if connection is None:
                connection = connect.connect_memory()
                connection.execute("BEGIN IMMEDIATE")
                schema.apply(connection, 0, self.location, is_new_file=False)
                connection.execute("COMMIT")
                weakref.finalize(self, _close, connection, os.getpid())
                self._connection = connection
        return Session(
            connection,
            self._lock,
            location=self.location,
            path=None,
            identity=None,
            patience_s=patience_s,
            flushes=False,
        )

    def close(self, session: Session) -> None: ...

    def migrate(self) -> tuple[int, int]:
        was_there = self._connection is not None
        self.open(patience_s=CLIENT_PATIENCE_S, create=True)
        return (schema.VERSION if was_there else 0), schema.VERSION


def _close(connection: sqlite3.Connection, made_by: int) -> None:
    if os.getpid() == made_by:
        connection.close()
    else:  # in a forked child, where a thread of the parent may have held the connection's mutex
        forks.keep_for_ever(connection)

"""Maintenance of an SQLite file by a supervisor: checkpoints, flushes, checks for deletion. One thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mpdispatch.private import folder_beside
from mpdispatch.store.sqlite import shrink
from mpdispatch.store.sqlite.connection import Session
from mpdispatch.store.sqlite.holder import holder_of


class SQLiteFileCare:
    """Uses the connection of its supervisor."""

    def __init__(self, session: Callable[[], Session], path: Path, *, is_shared: bool) -> None:
        """`session` returns the connection, reopened if necessary. `is_shared`: the file is an application's."""
        self._session, self._lock = session, folder_beside(path) / "lock"
        self._is_shared, self._has_shrunk = is_shared, False
        self._seen: tuple[Session, int] | None = None

    def checkpoint_if_large(self) -> None:
        """Checkpoint the WAL if it has grown past 8 MiB and nobody is writing."""
        self._session().checkpoint_if_large()

    def shrink(self) -> bool:
        """Give some free pages back, in a step of a few ms; the last one also cuts the file, by a checkpoint."""
        if self._is_shared:
            return False
        session = self._session()
        if shrink.step(session):
            self._has_shrunk = True
        elif self._has_shrunk:
            session.checkpoint()
            self._has_shrunk = False
        return self._has_shrunk

    def sync(self) -> None:
        """Make everything committed so far survive a power cut."""
        self._session().sync()

    def verify(self) -> None:
        """Raise StoreVanished if the file was deleted or replaced since it was opened. Costs one stat."""
        self._session().verify()

    def has_changed(self) -> bool:
        """Compare `PRAGMA data_version`, which counts other connections' commits. True for a new connection."""
        session = self._session()
        version = session.read(lambda c: c.execute("PRAGMA data_version").fetchone()[0])
        before, self._seen = self._seen, (session, version)
        return before != self._seen

    def blocker(self) -> int | None:
        """Pid of the process on this machine that now holds the write lock; None if unknown."""
        return holder_of(self._lock)

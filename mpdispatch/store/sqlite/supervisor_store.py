"""The SQLite store as a supervisor sees it: one session, care for the file, and rows that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TypeVar

import msgspec

from mpdispatch import sqlite3
from mpdispatch.clock import Clock, Instant
from mpdispatch.model import ClaimRequest
from mpdispatch.store.optional import FileCare, NoFileCare
from mpdispatch.store.sql import commit as committing
from mpdispatch.store.sql.commit import Commit
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.follow_ups import Followed
from mpdispatch.store.sql.sessions import Flush
from mpdispatch.store.sql.supervisor_store import SQLSupervisorStore
from mpdispatch.store.sql.wakes import Wakes
from mpdispatch.store.sqlite import changes, unreadable
from mpdispatch.store.sqlite.connection import Session
from mpdispatch.store.sqlite.database import Database
from mpdispatch.store.sqlite.file_care import SQLiteFileCare
from mpdispatch.store.sqlite.record import HOT_PATH
from mpdispatch.store.sqlite.upkeep import SQLiteUpkeep
from mpdispatch.store.values import CommitResult

T = TypeVar("T")

PATIENCE_S = 0.01
"""Wait for our lock; SQLite's own may add BUSY_TIMEOUT_MS. With a single try a supervisor starved beside busy
clients: 3000 of 3400 commits were refused; with 10 ms, 25 of 5800."""


class OwnSession:
    """The session of a supervisor: a `SupervisorSession`. Checkpoints are for its file care."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._session_now: Session | None = None

    def current(self) -> Session:
        """The connection, reopened if necessary."""
        session = self._session_now
        if session is not None and not session.is_broken:
            return session
        if session is not None:
            self._database.close(session)
        self._session_now = session = self._database.open(patience_s=PATIENCE_S, create=False)
        return session

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return self.current().read(work)

    def write(
        self, work: Callable[[sqlite3.Connection], T], point: str, *, flush: Flush = Flush.IN_COMMIT
    ) -> T:
        return self.current().write(work, point=point, checkpoint=False, flush=flush)

    def close(self) -> None:
        if self._session_now is not None:
            self._database.close(self._session_now)
            self._session_now = None


class SQLiteSupervisorStore(SQLSupervisorStore):
    """Made by `SQLiteStore.supervisor_store()`; opens on first use and creates nothing."""

    upkeep: SQLiteUpkeep

    is_remote = syncs_claims = False

    def __init__(self, database: Database, clock: Clock, wakes: Wakes) -> None:
        self._database, self._own = database, OwnSession(database)
        upkeep = SQLiteUpkeep(self._own, clock, wakes)
        super().__init__(self._own, clock, wakes, upkeep=upkeep, request_cancel=changes.request_cancel)

    @cached_property
    def file_care(self) -> FileCare:
        path = self._database.path
        if path is None:
            return NoFileCare()
        return SQLiteFileCare(self._own.current, path, is_shared=self._database.is_shared)

    def _idle_result(self, commit: Commit) -> CommitResult | None:
        try:
            return super()._idle_result(commit)
        except unreadable.SUSPECTS:
            return None  # the commit itself will meet the error again

    def _committed(self, commit: Commit) -> CommitResult:
        try:
            return super()._committed(commit)
        except unreadable.SUSPECTS:
            # End the rows first: if the store is busy before the second write, no outcome was written unreported.
            claim = commit.request
            if claim is not None and not self._end_unreadable(claim) and not commit.is_synced:
                raise  # no unreadable row: the cause is something else
            result = self._write_commit(commit._replace(request=None), one_by_one=True)
            return msgspec.structs.replace(result, has_more=claim is not None)

    def _commit_in(
        self, connection: Connection, commit: Commit, *, one_by_one: bool
    ) -> tuple[CommitResult, bool]:
        return committing.write(connection, commit, self._clock, HOT_PATH, one_by_one=one_by_one)

    def _end_unreadable(self, request: ClaimRequest) -> int:
        return self.upkeep.end_unreadable(lambda c, now: unreadable.waiting(c, request, now))

    def _set_aside(self, connection: Connection, job_ids: Iterable[int], now: Instant) -> Followed:
        return unreadable.set_aside(connection, job_ids, now, are_claimed=True)[0]

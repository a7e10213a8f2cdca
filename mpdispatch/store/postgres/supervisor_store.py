"""The PostgreSQL store as a supervisor sees it: one connection, which waits for no lock longer than 50 ms."""

from __future__ import annotations

from mpdispatch.clock import Clock
from mpdispatch.store.postgres.server import Database
from mpdispatch.store.postgres.sessions import SupervisorSession
from mpdispatch.store.postgres.ways import WAYS
from mpdispatch.store.sql import commit as committing
from mpdispatch.store.sql.commit import Commit
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.supervisor_store import SQLSupervisorStore
from mpdispatch.store.sql.wakes import Wakes
from mpdispatch.store.values import CommitResult


class PostgresSupervisorStore(SQLSupervisorStore):
    """Made by `PostgresStore.supervisor_store()`; opens on first use and creates nothing."""

    def __init__(self, database: Database, clock: Clock, wakes: Wakes) -> None:
        super().__init__(SupervisorSession(database), clock, wakes)

    def _commit_in(
        self, connection: Connection, commit: Commit, *, one_by_one: bool
    ) -> tuple[CommitResult, bool]:
        return committing.write(connection, commit, self._clock, WAYS, one_by_one=one_by_one)

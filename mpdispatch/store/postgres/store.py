"""The PostgreSQL store as clients see it: what `contract.Store` promises. Waits up to 30 s for locks and the server."""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mpdispatch.clock import Clock, Instant
from mpdispatch.errors import UsageError
from mpdispatch.model import Finding, Job, NewJob
from mpdispatch.store.postgres import callers, hot_path
from mpdispatch.store.postgres.dialect import Dialect
from mpdispatch.store.postgres.options import Place, ServerOptions
from mpdispatch.store.postgres.server import Database
from mpdispatch.store.postgres.sessions import CLIENT_PATIENCE_S, ClientSessions
from mpdispatch.store.postgres.wake import PostgresWake
from mpdispatch.store.postgres.wire import Connect
from mpdispatch.store.sql import inserts
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.rows import fresh_job
from mpdispatch.store.sql.store import SQLStore
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.store.values import Backup, Durability

if TYPE_CHECKING:  # a rare use
    from mpdispatch.store.transfer import Transfer


class PostgresStore(SQLStore):
    """Jobs in a schema of a PostgreSQL database, shared by any number of hosts.

    The constructor does no I/O: connections are opened on first use and kept for the next call. Enqueueing and `migrate`
    create the tables; reading never does. The store may be used before and after `os.fork()`, in parent and child.

    Args:
        location: `postgresql://user@host/database`, with libpq's parameters and the options below (`?schema=jobs`).
        durability: `"full"`: enqueued jobs survive a power loss of the server. `"process"`: they survive any crash of
            processes; power loss may cost the last moments. Not given: taken from the configuration, else full.
        schema: holds our tables, all named `mpdispatch_*`; made if it is not there.
        pool_size: most connections of all client threads of this process together.
        proxy: whether a proxy that pools transactions (PgBouncer) stands between; None: each connection finds out by
            itself. Behind one no statement is prepared in advance, and there is no LISTEN: supervisors look for jobs at
            each poll interval, waiting clients again and again; with `True`, those of this machine wake each other.
        clock: decides when jobs are due and leases expire; None: the server's clock. For tests.
    """

    def __init__(
        self,
        location: str,
        durability: Durability | None = None,
        *,
        schema: str | None = None,
        pool_size: int | None = None,
        proxy: bool | None = None,
        clock: Clock | None = None,
    ) -> None:
        options = _options(durability, schema, pool_size, proxy)
        self._set_up(Place.read(location, defaults=options), None, clock)

    def _set_up(self, place: Place, connect: Connect | None, clock: Clock | None) -> None:
        self._dialect = Dialect(place.options.quoted_schema)
        self._database = Database(place, self._dialect, connect=connect)
        self._is_there = False
        """Whether the tables are, and the server's clock was read."""
        self.said_durability: Durability | None = place.options.durability
        """The durability asked for explicitly; None means none was, so it is full."""
        self._sessions: ClientSessions = ClientSessions(self._database)
        super().__init__(self._sessions, clock or self._database.clock)
        if not place.options.proxy:
            self.wake_ups = PostgresWake(self._database, self._sessions)

    @classmethod
    def at(cls, place: Place, connect: Connect | None = None) -> Self:
        """A store at this place; `connect` makes its connections, as an application has them made."""
        store = cls.__new__(cls)
        store._set_up(place, connect, None)
        return store

    @classmethod
    def of(
        cls,
        resource: Any,
        durability: Durability | None = None,
        *,
        schema: str | None = None,
        pool_size: int | None = None,
        proxy: bool | None = None,
    ) -> Self:
        """The store in the database of an app's psycopg connection or pool, or SQLAlchemy engine. Raises UsageError.

        It makes its own connections, as the resource makes them, and takes none away from it. Options as in the class.
        """
        from mpdispatch.store.postgres.sources import source_of

        place, connect = source_of(resource)
        options = _options(durability, schema, pool_size, proxy)
        return cls.at(dataclasses.replace(place, options=options), connect)

    def __repr__(self) -> str:
        return f"PostgresStore({self.display!r})"

    @property
    def location(self) -> str:
        """The URL that opens this store again. It may hold a password: never show it."""
        return self._database.place.location

    @property
    def display(self) -> str:
        """The location without any password."""
        return self._database.place.display

    @property
    def is_shared(self) -> bool:
        """Whether other processes can open the store."""
        return True

    @property
    def file(self) -> Path | None:
        """None: there is no file."""
        return None

    def prefer_durability(self, durability: Durability) -> Durability:
        """Use this durability unless one was asked for explicitly. Returns the one in use. For new connections."""
        if self.said_durability is None:
            self.said_durability = durability
            self._database.prefer_durability(durability)
        return self.said_durability

    @property
    def transfer(self) -> Transfer:
        """For moving all of it to another store, or from one."""
        from mpdispatch.store.postgres.transfer import PostgresTransfer  # a rare use

        return PostgresTransfer(self._sessions, self.display, self._database.place.options.quoted_schema)

    # -- opening --------------------------------------------------------------------------------

    def migrate(self) -> tuple[int, int]:
        """Create the tables or bring them up to date. Returns (version before, version now)."""
        return self._database.migrate(patience_s=CLIENT_PATIENCE_S)

    def script(self) -> str:
        """The SQL that makes such a store, and in comments how other programs enqueue."""
        from mpdispatch.store.postgres.script import script  # for people

        return script(self._database.place.options)

    def check(self, *, create: bool = False) -> None:
        """Open the store and check that it is usable, or raise a StoreError. `create=True` migrates first."""
        self._sessions.check(create=create)

    def supervisor_store(self) -> SupervisorStore:
        """The interface a supervisor uses, for the calling thread only."""
        from mpdispatch.store.postgres.supervisor_store import PostgresSupervisorStore

        return PostgresSupervisorStore(self._database, self._clock, self._wakes)

    # -- jobs -----------------------------------------------------------------------------------

    def enqueue(self, job: NewJob, *, connection: Any = None, is_synced: bool = True) -> Job:
        """Store one job. It is on disk when this returns; with `connection`, when that connection commits."""
        if connection is not None or not inserts.is_one_statement(job):
            return super().enqueue(job, connection=connection, is_synced=is_synced)
        key = random.getrandbits(63)
        job_id, row = self._sessions.write_jobs(
            lambda c: hot_path.insert_once(c, job, self._clock.now(), key),
            self.wake,
            is_one_statement=True,
            is_synced=is_synced,
        )
        return fresh_job(job, job_id, row)

    def _enqueue_on(self, connection: Any, job: NewJob) -> Job:
        callers.refuse_other(connection, self._database.name)
        if not self._is_there:
            self._sessions.check(create=True)  # on a connection of ours: the tables, and the server's time
            self._is_there = True
        return callers.insert_on(connection, job, self._clock.now(), self._dialect, self.display)

    def _insert_alike(
        self, connection: Connection, template: NewJob, payloads: Sequence[bytes], now: Instant
    ) -> Sequence[int]:
        return hot_path.insert_alike(connection, template, payloads, now)

    # -- the server -----------------------------------------------------------------------------

    def compact(self) -> tuple[int, int]:
        raise UsageError(f"{self.display} has no file to compact; autovacuum makes room on the server")

    def backup(self, destination: str | os.PathLike[str]) -> Backup:
        raise UsageError(f"{self.display} has no file to copy; use pg_dump")

    def examine(self) -> list[Finding]:
        """Check the server, its settings and the store's rows. Reads all of it."""
        from mpdispatch.store.postgres import health

        durability, database = self._database.durability, self._database
        return self._sessions.read(
            lambda c: list(health.of_store(c, durability=durability, is_proxied=database.is_proxied))
        )


def _options(
    durability: Durability | None, schema: str | None, pool_size: int | None, proxy: bool | None
) -> ServerOptions:
    given = {"durability": durability, "schema": schema, "pool_size": pool_size, "proxy": proxy}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return ServerOptions(**options)

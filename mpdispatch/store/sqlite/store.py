"""The SQLite store as clients see it: what `contract.Store` promises. Waits up to 30 s for the write lock."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mpdispatch.clock import Clock, Instant, SystemClock
from mpdispatch.errors import UsageError
from mpdispatch.model import Finding, Job, NewJob
from mpdispatch.store.filters import PruneFilter
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.store import SQLStore
from mpdispatch.store.sqlite import changes, inserts, shrink
from mpdispatch.store.sqlite.database import Database, FileDatabase, MemoryDatabase
from mpdispatch.store.sqlite.options import FileOptions
from mpdispatch.store.sqlite.thread_sessions import ThreadSessions
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.store.values import Backup, Durability, Pruned

if TYPE_CHECKING:  # a rare use
    from mpdispatch.store.transfer import Transfer


class SQLiteStore(SQLStore):
    """Jobs in an SQLite file, or in this process's memory (`":memory:"`).

    The constructor does no I/O: the file is opened on first use, per process and thread. Enqueueing and `migrate`
    create it; reading never does. The store may be used before and after `os.fork()`, in parent and child: a fork
    waits up to 1 s for threads that use it and closes the file; the next use opens it again.

    Args:
        path: of the file. Beside it stand `-wal`, `-shm` and the folder `-mpd` (lock and wake-up files).
        durability: `"full"`: enqueued jobs survive power loss. `"process"`: they survive any crash of processes;
            power loss may cost the last moments. Not given: taken from the dispatcher's configuration, else full.
        shared: the file is the application's own database and keeps its tables; ours are named `mpdispatch_*`.
        switch_to_wal: whether to switch a shared file in another journal mode to write-ahead logging, which mpdispatch
            needs and which then applies to all users of the file. A switch gives a UserWarning; `False` refuses.
        copy: the SQLite that opens the file: "sqlite3" or "pysqlite3"; None: this process's own. If the application
            itself has the file open, it must be the application's: two copies on one file in one process corrupt it.
        clock: decides when jobs are due and leases expire; None: the machine's clock. For tests.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        durability: Durability | None = None,
        shared: bool = False,
        *,
        switch_to_wal: bool = True,
        copy: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        named = {} if copy is None else {"copy": copy}
        options = FileOptions(durability=durability, shared=shared, switch_to_wal=switch_to_wal, **named)
        self._set_up(path, options, clock or SystemClock())

    @classmethod
    def with_options(cls, path: str | os.PathLike[str], options: FileOptions) -> Self:
        """A store at this path (or `:memory:`, which has no options)."""
        store = cls.__new__(cls)
        store._set_up(path, options, SystemClock())
        return store

    def _set_up(self, path: str | os.PathLike[str], options: FileOptions, clock: Clock) -> None:
        given = os.fspath(path)
        if not isinstance(given, str) or not given or "\0" in given:
            raise UsageError(f"path must be text that names a file, not {given!r}")
        self._copy = options.copy
        self._database: Database
        if given == ":memory:":
            self._database = MemoryDatabase()
        else:
            self._database = FileDatabase(os.path.abspath(given), options)
        self.said_durability: Durability | None = options.durability
        """The durability asked for explicitly; None means none was, so it is full."""
        self._sessions: ThreadSessions = ThreadSessions(self._database)
        super().__init__(self._sessions, clock)

    def __repr__(self) -> str:
        return f"SQLiteStore({self.display!r})"

    @property
    def location(self) -> str:
        """The file's absolute path (a `sqlite:///` URL if options differ from the defaults), or `:memory:`."""
        return self._database.location

    @property
    def display(self) -> str:
        """The location: that of a file holds no password."""
        return self._database.location

    @property
    def is_shared(self) -> bool:
        """Whether other processes can open the store."""
        return isinstance(self._database, FileDatabase)

    @property
    def file(self) -> Path | None:
        """The file's real path; None in memory."""
        return self._database.path

    def prefer_durability(self, durability: Durability) -> Durability:
        """Use this durability unless one was asked for explicitly. Returns the one in use. For new connections."""
        if self.said_durability is None:
            self.said_durability = durability
            if isinstance(self._database, FileDatabase):
                self._database.options = dataclasses.replace(self._database.options, durability=durability)
        return self.said_durability

    @property
    def transfer(self) -> Transfer:
        """For moving all of it to another store, or from one."""
        from mpdispatch.store.sqlite.transfer import SQLiteTransfer  # a rare use

        return SQLiteTransfer(self._sessions, self.display)

    # -- opening --------------------------------------------------------------------------------

    def migrate(self) -> tuple[int, int]:
        """Create the store or bring its schema up to date. Returns (version before, version now)."""
        return self._database.migrate()

    def script(self) -> str:
        """The SQL that makes such a store, and in comments how other programs enqueue."""
        from mpdispatch.store.sqlite.script import script  # for people

        return script(is_shared=self._database.is_shared)

    def check(self, *, create: bool = False) -> None:
        """Open the store and check that it is usable, or raise a StoreError. `create=True` migrates first."""
        self._sessions.current(create=create).verify()

    def supervisor_store(self) -> SupervisorStore:
        """The interface a supervisor uses, for the calling thread only."""
        # Not with every client: it is a third of the room.
        from mpdispatch.store.sqlite.supervisor_store import SQLiteSupervisorStore

        return SQLiteSupervisorStore(self._database, self._clock, self._wakes)

    # -- jobs -----------------------------------------------------------------------------------

    def _enqueue_on(self, connection: Any, job: NewJob) -> Job:
        inserts.refuse_other_sqlite(connection, self._copy)
        # The tables cannot be created while the caller is writing: raise instead of waiting for ourselves.
        session = self._sessions.current(create=not connection.in_transaction)
        session.verify()
        inserts.refuse_other_file(connection, session)
        made = inserts.insert_on(connection, job, self._clock.now())
        if not made.created:
            # The older job's commit may still be waiting for the disk; a commit without writes syncs nothing.
            self._sessions.sync()
        return made

    def _insert_alike(
        self, connection: Connection, template: NewJob, payloads: Sequence[bytes], now: Instant
    ) -> Sequence[int]:
        return inserts.insert_alike(connection, template, payloads, now)

    def _request_cancel(self, connection: Connection, job_id: int, now: Instant) -> bool:
        return changes.request_cancel(connection, job_id, now)

    def _retry(self, connection: Connection, job_id: int, now: Instant) -> Job:
        return changes.retry(connection, job_id, now)

    def faults(self, job_id: int) -> list[str]:
        from mpdispatch.store.sqlite.unreadable import faults

        return self._sessions.read(lambda c: faults(c, job_id))

    # -- the file -------------------------------------------------------------------------------

    def prune(self, where: PruneFilter, *, dry_run: bool = False) -> Pruned:
        """Delete ended jobs, a few hundred per transaction; the file becomes smaller."""
        pruned = super().prune(where, dry_run=dry_run)
        if pruned.by_state and not dry_run:
            shrink.give_back(self._database, self._sessions.current)
        return pruned

    def compact(self) -> tuple[int, int]:
        return shrink.compact(self._database, self._sessions.current())

    def backup(self, destination: str | os.PathLike[str]) -> Backup:
        """Copy the store to a new file, while others use it."""
        from mpdispatch.store.sqlite.backup import backup

        return backup(self._database, destination)

    def examine(self) -> list[Finding]:
        """Check the SQLite library, the file and its content. Reads all of it."""
        from mpdispatch.store.sqlite import health

        return health.of_store(self._database, self._sessions.read)

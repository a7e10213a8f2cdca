"""The SQLite store as clients see it: what `contract.Store` promises. Waits up to 30 s for the write lock."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Self

from mpdispatch import sqlite3
from mpdispatch.clock import Clock, SystemClock
from mpdispatch.errors import DeadLetterNotFoundError, JobNotFoundError, UsageError
from mpdispatch.model import (
    Attempt,
    DeadLetter,
    Enqueued,
    Failure,
    Finding,
    Job,
    JobState,
    NewBatch,
    NewJob,
    Output,
    Page,
    Parent,
    PeerSupervisor,
)
from mpdispatch.store.batches import BatchStore
from mpdispatch.store.crons import CronStore
from mpdispatch.store.filters import DeadLetterFilter, JobFilter, PruneFilter
from mpdispatch.store.optional import Wake
from mpdispatch.store.sqlite import (
    changes,
    dead_letters,
    dependents,
    inserts,
    outputs,
    pruning,
    reads,
    shrink,
    status,
)
from mpdispatch.store.sqlite.database import Database, FileDatabase, MemoryDatabase
from mpdispatch.store.sqlite.options import FileOptions
from mpdispatch.store.sqlite.queries import QUERIES
from mpdispatch.store.sqlite.thread_sessions import ThreadSessions
from mpdispatch.store.sqlite.wakes import Wakes
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.store.values import Backup, Dependents, Durability, HeldJob, Pruned, QueueState, QueueStats

_MOST_ID = (1 << 63) - 1
_PAUSE_S = 0.005
"""Longest pause between two steps of pruning."""


class SQLiteStore:
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
        self._clock = clock
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
        self._sessions = ThreadSessions(self._database)
        self.wake_ups: Wake | None = None
        """Wakes supervisors and clients that wait; None: they are not woken and poll."""

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
    def crons(self) -> CronStore:
        """The cron entries. Adding one creates the store, as enqueueing does."""
        # Not with every client: one that enqueues a job starts sooner without it.
        from mpdispatch.store.sqlite.crons import SQLiteCrons

        sessions = self._sessions
        return SQLiteCrons(sessions.read, sessions.write, self._clock, self._wakes, create=sessions.create)

    @property
    def batches(self) -> BatchStore:
        """The batches. Opening one creates the store, as enqueueing does."""
        from mpdispatch.store.sqlite.batches import SQLiteBatches

        return SQLiteBatches(self._sessions, self._clock, self._wakes)

    # -- opening --------------------------------------------------------------------------------

    def migrate(self) -> tuple[int, int]:
        """Create the store or bring its schema up to date. Returns (version before, version now)."""
        return self._database.migrate()

    def check(self, *, create: bool = False) -> None:
        """Open the store and check that it is usable, or raise a StoreError. `create=True` migrates first."""
        self._sessions.current(create=create).verify()

    def close(self) -> None:
        """Close this thread's connection, unless it is in use and this is called from a signal handler.

        The next call opens a new one.
        """
        self._sessions.close()
        if self.wake_ups is not None:
            self.wake_ups.close()

    def close_all(self) -> None:
        """Close the connections of all threads of this process, except those that stay in use for a second."""
        self.close()
        self._sessions.close_all()

    def supervisor_store(self) -> SupervisorStore:
        """The interface a supervisor uses, for the calling thread only."""
        # Not with every client: it is a third of the room.
        from mpdispatch.store.sqlite.supervisor_store import SQLiteSupervisorStore

        return SQLiteSupervisorStore(self._database, self._clock, self._wakes)

    # -- jobs -----------------------------------------------------------------------------------

    def enqueue(self, job: NewJob, *, connection: Any = None, is_synced: bool = True) -> Job:
        """Store one job. It is on disk when this returns; with `connection`, when that connection commits."""
        if connection is not None:
            return self._enqueue_on(connection, job)
        is_one_statement = inserts.is_one_statement(job)
        made = self._sessions.write_jobs(
            lambda c: inserts.insert(c, job, self._clock.now()),
            self.wake,
            is_one_statement=is_one_statement,
            is_synced=is_synced,
        )
        if job.after:
            self._wake_waiting_clients()  # a parent that has failed may have cancelled it, and ended its batch
        return made

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

    def sync(self) -> None:
        """Return once all that was stored so far is on disk, whoever stored it."""
        self._sessions.sync()

    def enqueue_many(
        self, jobs: Sequence[NewJob], *, batch: NewBatch | int | None = None, closes: bool = True
    ) -> Enqueued:
        from mpdispatch.store.sqlite import batches  # no single enqueue needs it

        if batch is None and not jobs:
            return Enqueued(None, [])
        made = self._sessions.write_jobs(
            lambda c: batches.enqueue(c, jobs, batch, self._clock.now(), closes=closes), self.wake
        )
        self._wake_waiting_clients()  # a batch that is closed may have ended, and its dependents with it
        return made

    def parents(self, job_id: int) -> list[Parent]:
        _refuse_impossible(job_id)
        return self._sessions.read(lambda c: dependents.parents(c, job_id))

    def awaited(self, job_id: int) -> list[Parent]:
        _refuse_impossible(job_id)
        return self._sessions.read(lambda c: dependents.awaited(c, job_id))

    def dependents(self, job_id: int) -> Dependents:
        _refuse_impossible(job_id)
        return Dependents(*self._sessions.read(lambda c: dependents.count_of(c, job_id)))

    def get(self, job_id: int) -> Job:
        _refuse_impossible(job_id)
        return self._sessions.read(lambda c: reads.job(c, job_id))

    def state_of(self, job_id: int) -> JobState:
        _refuse_impossible(job_id)
        return self._sessions.read(lambda c: reads.state_of(c, job_id))

    def ended(self, job_ids: Collection[int]) -> dict[int, JobState | None]:
        return self._sessions.read(lambda c: reads.ended(c, job_ids))

    def attempts(self, job_id: int) -> list[Attempt]:
        _refuse_impossible(job_id)

        def work(connection: sqlite3.Connection) -> list[Attempt]:
            return outputs.with_outputs(reads.attempts(connection, job_id), outputs.of_job(connection, job_id))

        return self._sessions.read(work)

    def outputs(self, job_id: int) -> list[Output]:
        _refuse_impossible(job_id)
        found = self._sessions.read(lambda c: outputs.of_job(c, job_id))
        if not found:
            self.state_of(job_id)
        return found

    def list_jobs(self, where: JobFilter, *, limit: int, cursor: str | None) -> Page[Job]:
        return self._sessions.read(lambda c: reads.page(c, where, limit, cursor))

    def counts(self) -> dict[JobState, int]:
        return self._sessions.read(reads.counts)

    def dead_letter_count(self, queue: str | None = None) -> int:
        return self._sessions.read(lambda c: dead_letters.count(c, queue))

    def dead_letters(self, where: DeadLetterFilter, *, limit: int, cursor: str | None) -> Page[DeadLetter]:
        return self._sessions.read(lambda c: dead_letters.page(c, where, limit, cursor))

    def dead_letter(self, job_id: int) -> DeadLetter:
        _refuse_impossible(job_id, DeadLetterNotFoundError)
        return self._sessions.read(lambda c: dead_letters.letter(c, job_id))

    def failures(self, where: DeadLetterFilter, *, limit: int, cursor: str | None) -> Page[Failure]:
        return self._sessions.read(lambda c: dead_letters.failures(c, where, limit, cursor))

    def replay(self, job_id: int) -> Job:
        _refuse_impossible(job_id, DeadLetterNotFoundError)
        return self._change(lambda c: dead_letters.replay(c, job_id, self._clock.now()), "replay")

    def _change(self, work: Callable[[sqlite3.Connection], Job], point: str) -> Job:
        job = self._sessions.write(work, point)
        self.wake()
        return job

    def purge_dead_letters(self, where: DeadLetterFilter) -> int:
        """Purge dead letters (never their jobs), a few hundred at a time. Returns the count."""

        def write(work: Callable[[sqlite3.Connection], int]) -> int:
            return self._sessions.write(work, "purge")

        return dead_letters.purge(self._sessions.read, write, where, self._clock)

    def queue_stats(self) -> list[QueueStats]:
        return self._sessions.read(reads.queue_stats)

    def cancel(self, job_id: int) -> Job:
        _refuse_impossible(job_id)
        job = self._change(lambda c: changes.cancel(c, job_id, self._clock.now()), "cancel")
        self._wake_waiting_clients()
        return job

    def retry(self, job_id: int) -> Job:
        _refuse_impossible(job_id)
        return self._change(lambda c: changes.retry(c, job_id, self._clock.now()), "retry")

    def retry_many(self, job_ids: Sequence[int]) -> tuple[list[Job], dict[int, str]]:
        done = self._sessions.write(lambda c: changes.retry_many(c, job_ids, self._clock.now()), "retry")
        self.wake()
        return done

    def set_paused(self, queue: str, paused: bool) -> None:
        self._sessions.write(lambda c: c.execute(QUERIES["set_paused"], (queue, int(paused))), "set_paused")
        if not paused:
            self.wake()

    def prune(self, where: PruneFilter, *, dry_run: bool = False) -> Pruned:
        """Delete ended jobs, a few hundred per transaction."""
        by_state = self._sessions.run(pruning.by_filter(where, dry_run=dry_run), "prune", shares=True)
        if by_state and not dry_run:
            shrink.give_back(self._database, self._sessions.current)
        return Pruned(by_state, self._sessions.read(lambda c: pruning.open_failed(c, where)))

    def compact(self) -> tuple[int, int]:
        return shrink.compact(self._database, self._sessions.current())

    def backup(self, destination: str | os.PathLike[str]) -> Backup:
        """Copy the store to a new file, while others use it."""
        from mpdispatch.store.sqlite.backup import backup

        return backup(self._database, destination)

    def supervisors(self) -> list[PeerSupervisor]:
        return self._sessions.read(lambda c: reads.supervisors(c, self._clock.now()))

    def held_by(self, owner: int) -> list[HeldJob]:
        return self._sessions.read(lambda c: [HeldJob(*row) for row in c.execute(QUERIES["held_by"], (owner,))])

    def parked(self) -> dict[str, int]:
        return self._sessions.read(status.parked)

    def ahead(self, job_id: int) -> int:
        if not 0 < job_id <= _MOST_ID:
            return 0
        return self._sessions.read(lambda c: status.ahead(c, job_id))

    def faults(self, job_id: int) -> list[str]:
        from mpdispatch.store.sqlite.unreadable import faults

        return self._sessions.read(lambda c: faults(c, job_id))

    def queue_state(self, queue: str) -> QueueState:
        return self._sessions.read(lambda c: status.queue_state(c, queue))

    def examine(self) -> list[Finding]:
        """Check the SQLite library, the file and its content. Reads all of it."""
        from mpdispatch.store.sqlite import health

        return health.of_store(self._database, self._sessions.read)

    @property
    def _wakes(self) -> Wakes:
        return Wakes(self.wake, self._wake_waiting_clients)

    def wake(self) -> None:
        """Wake every supervisor of this store. A hint: never blocks or raises."""
        if self.wake_ups is not None:
            self.wake_ups.notify()

    def _wake_waiting_clients(self) -> None:
        """Wake every client that waits for jobs to end. A hint, as `wake`."""
        if self.wake_ups is not None:
            self.wake_ups.notify_of_ends()


def _refuse_impossible(job_id: int, error: type[JobNotFoundError] = JobNotFoundError) -> None:
    """Raise `error` for an id that no row can have, as SQLite's integers have 64 bits."""
    if not 0 < job_id <= _MOST_ID:
        raise error(job_id)

"""An SQL store as clients see it, as far as that is statements: what `contract.Store` promises about jobs.

A backend adds what is about its database: opening it, a supervisor's store, copying, examining.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from mpdispatch.clock import Clock, Instant
from mpdispatch.errors import DeadLetterNotFoundError, JobNotFoundError
from mpdispatch.model import (
    Attempt,
    DeadLetter,
    Enqueued,
    Failure,
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
from mpdispatch.store.callers import driver_connection
from mpdispatch.store.crons import CronStore
from mpdispatch.store.filters import DeadLetterFilter, JobFilter, PruneFilter
from mpdispatch.store.optional import Wake
from mpdispatch.store.sql import (
    changes,
    dead_letters,
    dependents,
    inserts,
    outputs,
    pruning,
    reads,
    rounds,
    status,
)
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.sessions import ClientSessions
from mpdispatch.store.sql.wakes import Wakes
from mpdispatch.store.values import Dependents, HeldJob, Pruned, QueueState, QueueStats

if TYPE_CHECKING:  # a rare use
    from mpdispatch.store.transfer import Transfer

_MOST_ID = (1 << 63) - 1


class SQLStore(ABC):
    """Sessions, a clock, and wake-ups; the constructor does no I/O."""

    def __init__(self, sessions: ClientSessions, clock: Clock) -> None:
        self._sessions, self._clock = sessions, clock
        self.wake_ups: Wake | None = None
        """Wakes supervisors and clients that wait; None: they are not woken and poll."""

    @property
    def crons(self) -> CronStore:
        """The cron entries. Adding one creates the store, as enqueueing does."""
        # Not with every client: one that enqueues a job starts sooner without it.
        from mpdispatch.store.sql.crons import SQLCrons

        sessions = self._sessions
        return SQLCrons(
            sessions.read,
            sessions.write,
            self._clock,
            self._wakes,
            create=sessions.create,
            request_cancel=self._request_cancel,
        )

    @property
    def batches(self) -> BatchStore:
        """The batches. Opening one creates the store, as enqueueing does."""
        from mpdispatch.store.sql.batches import SQLBatches

        return SQLBatches(self._sessions, self._clock, self._wakes)

    @property
    def transfer(self) -> Transfer | None:
        """For moving all of it; None until the backend has one."""
        return None

    # -- opening --------------------------------------------------------------------------------

    @abstractmethod
    def script(self) -> str:
        """The SQL that makes such a store, and in comments how other programs enqueue."""

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

    # -- jobs -----------------------------------------------------------------------------------

    def enqueue(self, job: NewJob, *, connection: Any = None, is_synced: bool = True) -> Job:
        """Store one job. It is on disk when this returns; with `connection`, when that connection commits."""
        if connection is not None:
            return self._enqueue_on(driver_connection(connection), job)
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

    def sync(self) -> None:
        """Return once all that was stored so far is on disk, whoever stored it."""
        self._sessions.sync()

    def enqueue_many(
        self, jobs: Sequence[NewJob], *, batch: NewBatch | int | None = None, closes: bool = True
    ) -> Enqueued:
        from mpdispatch.store.sql import batches  # no single enqueue needs it

        if batch is None and not jobs:
            return Enqueued(None, [])
        made = self._sessions.write_jobs(
            lambda c: batches.enqueue(c, jobs, batch, self._clock.now(), self._insert_alike, closes=closes),
            self.wake,
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

        def work(connection: Connection) -> list[Attempt]:
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

    def _change(self, work: Callable[[Connection], Job], point: str) -> Job:
        job = self._sessions.write(work, point)
        self.wake()
        return job

    def purge_dead_letters(self, where: DeadLetterFilter) -> int:
        """Purge dead letters (never their jobs), a few hundred at a time. Returns the count."""

        def write(work: Callable[[Connection], int]) -> int:
            return self._sessions.write(work, "purge")

        return dead_letters.purge(self._sessions.read, write, where, self._clock)

    def queue_stats(self) -> list[QueueStats]:
        return self._sessions.read(reads.queue_stats)

    def cancel(self, job_id: int) -> Job:
        _refuse_impossible(job_id)
        job = self._change(
            lambda c: changes.cancel(c, job_id, self._clock.now(), self._request_cancel), "cancel"
        )
        self._wake_waiting_clients()
        return job

    def retry(self, job_id: int) -> Job:
        _refuse_impossible(job_id)
        return self._change(lambda c: self._retry(c, job_id, self._clock.now()), "retry")

    def retry_many(self, job_ids: Sequence[int]) -> tuple[list[Job], dict[int, str]]:
        done = self._sessions.write(
            lambda c: changes.retry_many(c, job_ids, self._clock.now(), self._retry), "retry"
        )
        self.wake()
        return done

    def set_paused(self, queue: str, paused: bool) -> None:
        self._sessions.write(lambda c: c.execute(QUERIES["set_paused"], (queue, int(paused))), "set_paused")
        if not paused:
            self.wake()

    def prune(self, where: PruneFilter, *, dry_run: bool = False) -> Pruned:
        """Delete ended jobs, a few hundred per transaction."""
        steps = pruning.by_filter(where, dry_run=dry_run)
        by_state = rounds.run(self._sessions, steps, "prune", shares=True)
        return Pruned(by_state, self._sessions.read(lambda c: pruning.open_failed(c, where)))

    def supervisors(self) -> list[PeerSupervisor]:
        return self._sessions.read(lambda c: reads.supervisors(c, self._clock.now()))

    def held_by(self, owner: int) -> list[HeldJob]:
        return self._sessions.read(lambda c: [HeldJob(*row) for row in c.execute(QUERIES["held_by"], (owner,))])

    def faults(self, job_id: int) -> list[str]:
        """None: a backend whose tables refuse whatever a claim cannot read has no such rows."""
        return []

    def parked(self) -> dict[str, int]:
        return self._sessions.read(status.parked)

    def ahead(self, job_id: int) -> int:
        if not 0 < job_id <= _MOST_ID:
            return 0
        return self._sessions.read(lambda c: status.ahead(c, job_id))

    def queue_state(self, queue: str) -> QueueState:
        return self._sessions.read(lambda c: status.queue_state(c, queue, self._clock.now()))

    # -- what a backend does in its own way -------------------------------------------------------

    @abstractmethod
    def _enqueue_on(self, connection: Any, job: NewJob) -> Job:
        """Insert a job on the caller's own connection."""

    @abstractmethod
    def _insert_alike(
        self, connection: Connection, template: NewJob, payloads: Sequence[bytes], now: Instant
    ) -> Sequence[int]:
        """See `inserts.InsertAlike`."""

    def _request_cancel(self, connection: Connection, job_id: int, now: Instant) -> bool:
        return changes.request_cancel(connection, job_id, now)

    def _retry(self, connection: Connection, job_id: int, now: Instant) -> Job:
        return changes.retry(connection, job_id, now)

    # -- wake-ups -----------------------------------------------------------------------------

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
    """Raise `error` for an id that no row can have, as its integers have 64 bits."""
    if not 0 < job_id <= _MOST_ID:
        raise error(job_id)

"""What a store must do for clients: `Store`, whose calls wait. `supervisor_contract` has what it does for supervisors.

`optional` holds what a store may do besides: wake-ups, upkeep of its rows, care for a file.

Every method is one transaction (or one consistent read) and one transition; there is no `update(job)`.
The store reads the clock itself. Callers pass durations; only times that people see or choose (`run_at`) are wall
times.
Every write to a running job has owner **and** `starts` in its WHERE and checks the row count.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

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
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.store.values import (
    Backup,
    Dependents,
    Durability,
    HeldJob,
    Pruned,
    QueueState,
    QueueStats,
)

if TYPE_CHECKING:  # a rare use
    from mpdispatch.store.transfer import Transfer


class Store(Protocol):
    """The store as clients see it. Thread-safe, fork-safe, opens on first use.

    A call waits up to 30 s for the write lock, then raises `StoreBusy`.
    """

    wake_ups: Wake | None
    """The store's own wake-ups. If None, `host.wake.bring_wake_ups` supplies some."""

    @property
    def location(self) -> str:
        """The location that opens this store again with `open_store`. It may hold a password: never show it."""
        ...

    @property
    def display(self) -> str:
        """The location for messages, logs and output, without any password."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether other processes can open the store (`:memory:` cannot be shared)."""
        ...

    @property
    def file(self) -> Path | None:
        """Real path of the store's file, or None if it has no file. Its runtime folder lies beside it."""
        ...

    @property
    def said_durability(self) -> Durability | None:
        """The durability that was asked for explicitly; None means none was, so it is full."""
        ...

    def prefer_durability(self, durability: Durability) -> Durability:
        """Use this durability unless one was asked for explicitly. Returns the one in use.

        Affects connections opened from now on.
        """
        ...

    @property
    def crons(self) -> CronStore:
        """The cron entries."""
        ...

    @property
    def batches(self) -> BatchStore:
        """The batches."""
        ...

    @property
    def transfer(self) -> Transfer | None:
        """For moving all of it to another store, or from one; None: this kind of store cannot be moved."""
        ...

    # -- opening --------------------------------------------------------------------------------

    def migrate(self) -> tuple[int, int]:
        """Create the store or bring its schema up to date. Returns (version before, version now); 0 = no store.

        Safe when many processes do it at once.
        """
        ...

    def script(self) -> str:
        """What makes the store, as text: SQL, or functions of a server; and in comments how other programs enqueue.

        Opens nothing.
        """
        ...

    def check(self, *, create: bool = False) -> None:
        """Open the store and check that it is usable, or raise a StoreError. `create=True` migrates first."""
        ...

    def close(self) -> None:
        """Close this thread's connection."""
        ...

    def close_all(self) -> None:
        """Close the connections of all threads of this process, except a supervisor's. The next call reopens one."""
        ...

    def supervisor_store(self) -> SupervisorStore:
        """The interface a supervisor uses, for the calling thread only."""
        ...

    # -- jobs -----------------------------------------------------------------------------------

    def enqueue(self, job: NewJob, *, connection: Any = None, is_synced: bool = True) -> Job:
        """Store one job. It is on disk when this returns; with `connection`, when that connection commits.

        If the same job name already uses the idempotency key, returns the older job with `created=False`.
        `is_synced=False`: it survives the end of any process at once, and a power cut from the next call on that waits
        for the disk. A job with parents is due once they have ended; if one has failed already, its policy applies at
        once. Raises BatchNotFoundError, BatchClosedError, UnknownParentError.
        """
        ...

    def sync(self) -> None:
        """Return once all that was stored in this process is on disk, also with `is_synced=False`."""
        ...

    def enqueue_many(
        self, jobs: Sequence[NewJob], *, batch: NewBatch | int | None = None, closes: bool = True
    ) -> Enqueued:
        """Store these jobs as members of a batch, in one transaction.

        `batch`: a new one, the id of an open one, or None: a new one with the name of the first job, if there is one.
        Jobs that differ only in their payloads are passed as `AlikeJobs`; their own `batch_id` does not count. A job
        whose idempotency key is in use is not stored: the older one stays in its own batch. `closes`: the batch takes
        no more members.
        Raises BatchNotFoundError, BatchClosedError, UnknownParentError.
        """
        ...

    def parents(self, job_id: int) -> list[Parent]:
        """The jobs that this one waits for, or waited for, by id."""
        ...

    def awaited(self, job_id: int) -> list[Parent]:
        """Those of its parents that it still waits for, by id. Empty for any job that does not wait for parents."""
        ...

    def dependents(self, job_id: int) -> Dependents:
        """How many jobs wait for this one, or have waited for it."""
        ...

    def get(self, job_id: int) -> Job:
        """Raises JobNotFoundError."""
        ...

    def state_of(self, job_id: int) -> JobState:
        """Cheap enough to poll. Raises JobNotFoundError."""
        ...

    def ended(self, job_ids: Collection[int]) -> dict[int, JobState | None]:
        """Those of these jobs that have ended, with their states, and with None those that are not there.

        One call for ten thousand ids is cheap enough to poll.
        """
        ...

    def attempts(self, job_id: int) -> list[Attempt]:
        """The job's attempts, oldest first, with the output of each."""
        ...

    def outputs(self, job_id: int) -> list[Output]:
        """The output of each start (also a running one) per stream, oldest start first. Raises JobNotFoundError."""
        ...

    def list_jobs(self, where: JobFilter, *, limit: int, cursor: str | None) -> Page[Job]:
        """Jobs, newest id first. Raises UsageError on an invalid cursor."""
        ...

    def counts(self) -> dict[JobState, int]:
        """Number of jobs in every state, zeros included. A failed job that was enqueued again does not count."""
        ...

    def dead_letter_count(self, queue: str | None = None) -> int:
        """Number of dead letters not replayed, of one queue or of all."""
        ...

    def dead_letters(self, where: DeadLetterFilter, *, limit: int, cursor: str | None) -> Page[DeadLetter]:
        """Dead letters, latest failure first. Raises UsageError on an invalid cursor."""
        ...

    def dead_letter(self, job_id: int) -> DeadLetter:
        """Raises DeadLetterNotFoundError."""
        ...

    def failures(self, where: DeadLetterFilter, *, limit: int, cursor: str | None) -> Page[Failure]:
        """As `dead_letters`, for reading very many: without the jobs and the tracebacks."""
        ...

    def replay(self, job_id: int) -> Job:
        """Enqueue a failed job again as a new job and mark its dead letter, in one transaction.

        If it was replayed before, returns the job of that replay, with `created=False`. Raises DeadLetterNotFoundError.
        """
        ...

    def purge_dead_letters(self, where: DeadLetterFilter) -> int:
        """Purge dead letters, replayed or not: from now on there are none for these failed jobs. Returns the count.

        In short transactions, so that others can write. The jobs stay, until they may be pruned.
        """
        ...

    def queue_stats(self) -> list[QueueStats]:
        """Each queue that has jobs or is paused, with the counts of its jobs as in `counts`."""
        ...

    def cancel(self, job_id: int) -> Job:
        """Cancel a job that is not running; ask the supervisor to end a running one.

        Raises InvalidStateError on a terminal job, JobNotFoundError.
        """
        ...

    def retry(self, job_id: int) -> Job:
        """Run a waiting job now, or enqueue a failed or cancelled job again as a new job.

        An ended job is enqueued again only once: a second call returns the job of the first, with `created=False`. One
        that had parents waits again, for those in their places now; one with `cancel` waits for the retry of a failed one.
        Raises InvalidStateError (pending, running or completed), JobNotFoundError.
        """
        ...

    def retry_many(self, job_ids: Sequence[int]) -> tuple[list[Job], dict[int, str]]:
        """As `retry` of each, in one transaction: a caller with very many passes a few hundred at a time.

        Leaves out ended jobs that were enqueued again already, failed ones without an open dead letter, and all that
        `retry` refuses for their state: somebody was quicker. Returns the jobs that run again, and by id why others
        cannot.
        """
        ...

    def set_paused(self, queue: str, paused: bool) -> None: ...

    def prune(self, where: PruneFilter, *, dry_run: bool = False) -> Pruned:
        """Delete ended jobs with all their records, in short transactions so that others can write.

        `dry_run`: only count them. A failed job stays until its dead letter is replayed or purged; a job of a cron
        entry, until the entry has seen its end.
        """
        ...

    def compact(self) -> tuple[int, int]:
        """Make the store's file as small as possible. Returns its size before and after, in bytes.

        Nobody can write meanwhile, so only use it while no supervisor runs. Raises UsageError: there is no file;
        StoreError.
        """
        ...

    def backup(self, destination: str | os.PathLike[str]) -> Backup:
        """Copy the store as it is at one moment to a new file, while others use it. Blocks; a large one takes long.

        A supervisor of this store that meets the copy in the store's place writes nothing to it. Raises
        StoreCannotCreate, StorePermission, StoreFull, StoreIOError: of the destination, and nothing is left of it;
        UsageError: there is no file; StoreError.
        """
        ...

    def supervisors(self) -> list[PeerSupervisor]:
        """All registered supervisors, dead or alive."""
        ...

    def held_by(self, owner: int) -> list[HeldJob]:
        """The running jobs of a supervisor, without their payloads."""
        ...

    def parked(self) -> dict[str, int]:
        """Number of parked jobs by reason, the commonest first. Leaves out paused queues."""
        ...

    def ahead(self, job_id: int) -> int:
        """Number of due jobs of its queue that will be claimed before this one, at most 1000; 0 if it is not due."""
        ...

    def faults(self, job_id: int) -> list[str]:
        """Faults in the job's row that prevent a claim: another program wrote them. Nearly always empty."""
        ...

    def queue_state(self, queue: str) -> QueueState:
        """What holds the queue's jobs back. Cheap: counts no jobs but running ones."""
        ...

    def examine(self) -> list[Finding]:
        """Check the store itself and report what is right and wrong. Reads all of it: may take seconds."""
        ...

    def wake(self) -> None:
        """Wake every supervisor of this store through `wake_ups`. A hint: never blocks or raises, may be lost.

        The store calls this itself after an enqueue, when a supervisor releases jobs or takes over a dead
        supervisor's, and when a cron entry changes or fires. After each commit that ended jobs, and after a client
        has ended one, it calls `wake_ups.notify_of_ends`.
        """
        ...

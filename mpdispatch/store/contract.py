"""What a store must do. Two faces: `Store` for clients (they wait), `SupervisorStore` for a supervisor (it never waits).

What a store may do besides (wake-ups, care for a file) is in `optional`.

Every method is one transaction (or one consistent read) and one transition; there is no `update(job)`.
What time it is the store knows: nobody tells it. How long something lasts crosses as a duration; moments that people see
or choose (`run_at`) are wall time.
Every write to a running job carries owner **and** `starts` in its WHERE and checks the row count.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

from mpdispatch.model import (
    Attempt,
    ClaimedJob,
    ClaimRequest,
    DeadLetter,
    Finding,
    Job,
    JobState,
    NewJob,
    NewSupervisor,
    Output,
    Page,
    PeerSupervisor,
    Transition,
)
from mpdispatch.store.filters import DeadLetterFilter, JobFilter
from mpdispatch.store.optional import FileCare, Wake
from mpdispatch.store.values import CommitResult, Durability, HeldJob, LeftBehind, Progress, QueueStats, Renewal
from mpdispatch.store.waits import Rebase, Wait, WaitsSeen

__all__ = [
    "DeadLetterFilter",
    "JobFilter",
    "Store",
    "SupervisorStore",
]


class Store(Protocol):
    """The clients' face. Thread-safe, fork-safe, opens on first use.

    Waits for the write lock up to 30 s, then raises `StoreBusy`.
    """

    wake_ups: Wake | None
    """A store may bring its own; to one that does not they are given where it is used (`host.wake`)."""

    @property
    def location(self) -> str:
        """What `open_store` opens it by again. It may hold a password, so nobody is shown it."""
        ...

    @property
    def display(self) -> str:
        """How it is shown in messages, logs and output: never with a password."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether other processes can open it (`:memory:` cannot be)."""
        ...

    @property
    def file(self) -> Path | None:
        """The file it is in, by its real path, if it is in one: what this machine keeps for it lies beside that."""
        ...

    @property
    def said_durability(self) -> Durability | None:
        """The durability it was told to have; None: nothing was said, so it is full."""
        ...

    def prefer_durability(self, durability: Durability) -> Durability:
        """Take this durability, unless it was told one; gives what it has now. For connections opened from now on."""
        ...

    # -- opening --------------------------------------------------------------------------------

    def migrate(self) -> tuple[int, int]:
        """Create the store or bring its schema up to date; gives (version before, version now).

        Safe when many processes do it at once. 0 = there was none.
        """
        ...

    def check(self, *, create: bool = False) -> None:
        """Open it and see that it can be used, or raise a StoreError. `create=True` migrates first."""
        ...

    def close(self) -> None:
        """Close this thread's connection."""
        ...

    def close_all(self) -> None:
        """Close the connections of all threads of this process, but not a supervisor's. The next call opens one anew."""
        ...

    def supervisor_store(self) -> SupervisorStore:
        """A supervisor's own face of this store, for the calling thread only."""
        ...

    # -- jobs -----------------------------------------------------------------------------------

    def enqueue(self, job: NewJob, *, connection: Any = None) -> Job:
        """Keep one job. On disk when this returns, unless `connection` is given: then with its commit.

        An idempotency key in use under the same name gives the older job, with `created=False`.
        """
        ...

    def enqueue_many(self, jobs: Sequence[NewJob], *, batch_id: int | None = None) -> Sequence[int]:
        """Keep these jobs as one batch, in one transaction; gives their ids, in the order of the jobs.

        A job whose idempotency key is in use gives the id of the older job, which stays in its own batch.
        `batch_id=None` starts a new batch, named after the id of its first new job. Many jobs of which only the payloads
        differ are handed over as `AlikeJobs`.
        """
        ...

    def get(self, job_id: int) -> Job:
        """Raises JobNotFoundError."""
        ...

    def state_of(self, job_id: int) -> JobState:
        """Cheap enough to poll. Raises JobNotFoundError."""
        ...

    def attempts(self, job_id: int) -> list[Attempt]:
        """Oldest first, with what each wrote."""
        ...

    def outputs(self, job_id: int) -> list[Output]:
        """What each start wrote to each stream, oldest start first; a running one's too. Raises JobNotFoundError."""
        ...

    def list_jobs(self, where: JobFilter, *, limit: int, cursor: str | None) -> Page[Job]:
        """Newest id first. Raises UsageError on a cursor that is none."""
        ...

    def counts(self) -> dict[JobState, int]:
        """Every state, 0 included."""
        ...

    def dead_letter_count(self, queue: str | None = None) -> int:
        """Dead letters not replayed, of one queue or of all."""
        ...

    def dead_letters(self, where: DeadLetterFilter, *, limit: int, cursor: str | None) -> Page[DeadLetter]:
        """The last failed first. Raises UsageError on a cursor that is none."""
        ...

    def dead_letter(self, job_id: int) -> DeadLetter:
        """Raises DeadLetterNotFoundError."""
        ...

    def replay(self, job_id: int) -> Job:
        """Enqueue a failed job again as a new job and mark its dead letter, in one transaction.

        If that was done before, the job it was replayed as, with `created=False`. Raises DeadLetterNotFoundError.
        """
        ...

    def purge_dead_letters(self, where: DeadLetterFilter) -> int:
        """Delete dead letters (never their jobs); gives how many. In short transactions: others go on meanwhile."""
        ...

    def queue_stats(self) -> list[QueueStats]: ...

    def cancel(self, job_id: int) -> Job:
        """Cancel a job that is not running; ask the supervisor to end one that is.

        Raises InvalidStateError on a terminal job, JobNotFoundError.
        """
        ...

    def retry(self, job_id: int) -> Job:
        """Run a waiting job now, or enqueue a failed or cancelled one again as a new job.

        An ended job is enqueued again once: the second call gives the job of the first, with `created=False`.
        Raises InvalidStateError (pending, running or completed), JobNotFoundError.
        """
        ...

    def set_paused(self, queue: str, paused: bool) -> None: ...

    def prune(self, before_us: int, limit: int) -> int:
        """Delete up to `limit` jobs that ended before this wall time, and all kept of them; gives how many.

        0: there are none left. A failed job stays until its dead letter was replayed or purged.
        """
        ...

    def supervisors(self) -> list[PeerSupervisor]:
        """Registered ones, dead or alive."""
        ...

    def parked(self) -> dict[str, int]:
        """Parked jobs by their reason, the commonest first. Not those of paused queues."""
        ...

    def ahead(self, job_id: int) -> int:
        """How many due jobs of its queue are claimed before this one, at most 1000; 0 if it is not due."""
        ...

    def faults(self, job_id: int) -> list[str]:
        """What in the job's row (written by other ways than ours) keeps it from being claimed; nearly always nothing."""
        ...

    def bucket(self, queue: str) -> int | None:
        """The queue's token bucket (see policy.rate); None if no rate limit was used in this boot."""
        ...

    def examine(self) -> list[Finding]:
        """What is right and wrong with the store itself. Reads all of it: may take seconds."""
        ...

    def wake(self) -> None:
        """Wake every supervisor of this store, by its `wake_ups`; done by itself when there may be work for them.

        After an enqueue, and when a supervisor gives jobs back or takes over a dead one's. A hint: never blocks or
        raises, may be lost.
        """
        ...


class SupervisorStore(Protocol):
    """A supervisor's face of the store. One thread; raises StoreBusy within 50 ms instead of waiting."""

    @property
    def file_care(self) -> FileCare:
        """What a store in a file needs besides; `NoFileCare` for any other."""
        ...

    def register(self, who: NewSupervisor, ttl_us: int) -> int:
        """Join, with a lease of so long; gives the owner id for all later calls."""
        ...

    def unregister(self, owner: int) -> None:
        """Leave. Only after every job was finished or released."""
        ...

    def renew(self, owner: int, ttl_us: int) -> Renewal:
        """The heartbeat: its jobs are its own for so long from now. Raises LeaseLostError if the registration is gone."""
        ...

    def cancel_requests(self, owner: int) -> list[tuple[int, int]]:
        """(job id, starts) of running jobs of this owner somebody asked to cancel. A read."""

    def commit(
        self,
        owner: int,
        transitions: Sequence[Transition],
        *,
        claim: ClaimRequest | None = None,
        progress: Sequence[Progress] = (),
        outputs: Sequence[Output] = (),
        skip_idle_check: bool = False,
    ) -> CommitResult:
        """One transaction: record these outcomes, stage what is due, claim what `policy.admission` plans for `claim`.

        Takes no write lock if there is nothing to record and nothing due; with `skip_idle_check` (somebody has just
        enqueued something) it is not looked for that first. A turn that records nothing is not synced
        to disk (`is_synced`): the caller decides how long that may be. Raises LeaseLostError (nothing was
        written) if the registration is gone. `claim=None` claims nothing.
        """
        ...

    def peers(self, owner: int) -> list[PeerSupervisor]:
        """The other registered supervisors, dead or alive. A read."""

    def unknown_owners(self) -> list[int]:
        """Owners of running jobs that are not registered. A read, and cheap: it is asked once a second.

        An owner that is no number is replaced by one first: for `jobs_of` and `take_over`.
        """
        ...

    def jobs_of(self, owner: int) -> list[ClaimedJob]:
        """The running jobs of a supervisor, but for those that cannot be read. A read."""

    def held_by(self, owner: int) -> list[HeldJob]:
        """The running jobs of a supervisor for who counts or names them: without their payloads. A read."""

    def set_aside(self, owner: int, job_ids: Collection[int]) -> None:
        """End those of these jobs it runs that cannot be read; the next turn tells of them."""

    def set_aside_astray(self, queues: Sequence[str], after: int) -> tuple[int, int | None]:
        """Of the next jobs of these queues behind this id, a bounded number: end those whose rows stand where nobody finds
        them, or have them taken over (the next turn tells of them). Gives how many those were, and the last id looked
        at (None: there are no more). A read, mostly.
        """
        ...

    def take_over(self, dead: PeerSupervisor | int, transitions: Sequence[Transition]) -> bool:
        """Record these outcomes of a dead supervisor's jobs and strike it off, in one transaction.

        `dead` as a number: an owner that is not registered. False, and nothing written, if it has renewed its lease since
        (or is registered), was taken over by another, or owns a running job none of the transitions is for.
        """
        ...

    def outstanding(self, queues: Sequence[str]) -> dict[str, int]:
        """Jobs of these queues that a drain waits for, by state: pending and neither parked nor in a
        paused queue, running (anybody's), retrying. A read."""
        ...

    def left_behind(self, queues: Sequence[str]) -> LeftBehind:
        """Jobs of these queues that a drain does not wait for. A read; it counts them all."""
        ...

    def prune(self, before_us: int, limit: int) -> int:
        """As `Store.prune`. Keep `limit` small: the write lock is held for all of them."""
        ...

    def forget_late_cancels(self) -> bool:
        """Forget requests to cancel jobs that completed all the same, a bounded number; True: there may be more.

        Costs nothing unless `cancel_requests` has met any.
        """
        ...

    def waits(
        self, queues: Sequence[str], *, after_us: int, seen: WaitsSeen | None = None
    ) -> tuple[Sequence[Wait], WaitsSeen | None]:
        """Jobs of these queues that were put off until a wall time past `after_us`: some, those behind `seen`; and how
        far it came (None: to the end). A read of a bounded number of rows.
        """
        ...

    def rebase(self, changes: Sequence[Rebase]) -> int:
        """Have these be due at another time, unless that has changed since; gives how many."""
        ...

    def close(self) -> None: ...

"""Arguments and results of a store, besides those in `model`. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from mpdispatch.model import ClaimedJob, Job, JobState, Output, PeerSupervisor, Transition

Durability = Literal["full", "process"]
"""What an enqueued job survives: `full`, a power loss; `process`, any crash of processes."""


class QueueStats(msgspec.Struct, frozen=True, kw_only=True):
    """One queue: whether it is paused, and its jobs by state (every state, 0 included)."""

    name: str
    is_paused: bool
    jobs: Mapping[str, int]


class Dependents(NamedTuple):
    """How many jobs have this one as a parent."""

    waiting: int
    """Of these, the ones that still wait for some parent, this one or another."""
    total: int


class QueueState(NamedTuple):
    """What holds a queue's jobs back, beside its configuration."""

    is_paused: bool
    running: int
    """Number of its running jobs, of all supervisors."""
    bucket: int | None
    """Its token bucket (see policy.rate); None if its rate limit was not used in this boot."""
    now_us: int
    """What the clock showed that the bucket goes by: this boot's, or that of the store's server."""


class Progress(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Progress that a running handler reported; `data` is the JSON of done, total, message."""

    job_id: int
    starts: int
    data: bytes


class Reports(NamedTuple):
    """What running handlers reported, and what they wrote, since the last commit."""

    progress: Sequence[Progress] = ()
    outputs: Sequence[Output] = ()

    def __bool__(self) -> bool:
        return bool(self.progress or self.outputs)


NO_REPORTS = Reports()


class LeftBehind(NamedTuple):
    """Jobs that a drain leaves in its queues."""

    held: Mapping[str, int]
    """Due jobs that are parked or in a paused queue, by reason."""
    scheduled: int
    """Number of jobs due later."""


class Renewal(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a heartbeat."""

    owned: tuple[tuple[int, int], ...]
    """(job id, starts) of every running row this supervisor owns, for reconciling."""


class Outstanding(NamedTuple):
    """Jobs that a drain waits for, by state."""

    pending: int
    """Neither parked nor in a paused queue."""
    running: int
    """Of any supervisor."""
    retrying: int
    left: LeftBehind | None
    """What the drain leaves; counted only if it waits for no job any more."""


class UpkeepStep(NamedTuple):
    """What one step of a store's upkeep has done."""

    rebased: int
    """Number of jobs that wait anew, because the wall clock was set back since they were put off."""
    repaired: int
    """Number of rows that no query found, and that were ended or repaired; the next commit reports ended jobs."""
    has_more: bool
    """Whether there is more to do now."""
    expired: int = 0
    """Number of jobs that nobody has started in time, and that were cancelled; the next commit reports them."""


class Retention(NamedTuple):
    """How long ended jobs are kept; None: for ever."""

    ended_us: int | None
    """After a job has completed or was cancelled, and for slots and skips of cron entries."""
    failed_us: int | None
    """After the dead letter of a failed job was replayed or purged; while it is open the job is kept."""
    limit: int | None
    """How many at most, without failed jobs whose dead letters are open; the last ones are kept."""


class PruneStep(NamedTuple):
    """What one step of pruning has done."""

    pruned: int
    """Number of jobs that this round has deleted, when it is over; 0 before."""
    has_more: bool
    """Whether this round goes on."""


class Pruned(NamedTuple):
    """What was pruned, or would be."""

    by_state: Mapping[JobState, int]
    """Number of jobs; states without any are left out."""
    open_failed: int
    """Number of failed jobs, old enough and of that state, that stay because their dead letters are open."""


class Backup(NamedTuple):
    """A copy of a store."""

    path: Path
    bytes: int
    jobs: int
    """Number of jobs in it, of every state."""


class OtherOwners(NamedTuple):
    """Who else owns or may own running jobs of the store."""

    registered: Sequence[PeerSupervisor]
    """The other supervisors, dead or alive."""
    unregistered: Sequence[int]
    """Other owners of running jobs that have no registration."""


class CommitResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one commit of a supervisor."""

    claimed: Sequence[ClaimedJob]
    """Sorted by (priority descending, run_at, id)."""
    rejected: Sequence[tuple[int, int]]
    """(job id, starts) of transitions that touched no row: the job no longer belonged to this owner."""
    parked: Mapping[str, int]
    """Jobs parked by this claim, by reason."""
    cancelled: Sequence[tuple[int, int]] = ()
    """(job id, starts) of jobs that were to run again but had a cancel request: they are cancelled."""
    has_more: bool
    """The claim reached its limit; more jobs may be due."""
    due_in_us: int | None = None
    """Time until the next scheduled or retrying job of the polled queues is due, measured from a moment within the
    call: counting from the beginning of the call is never late. None if `has_more`."""
    token_in_us: int | None = None
    """Likewise, time until a rate-limited queue gets its next token, if that delays a due job."""
    held_back: Mapping[str, int] = {}
    """Due jobs per rate-limited queue (a lower bound) that have a token but found no free worker."""
    held_from: tuple[int, int, int] | None = None
    """(-priority, run_at, id) of the first of them; None: they come after all that was claimed."""
    is_synced: bool = True
    """False: this commit only claimed, and a power cut before `FileCare.sync` may undo the claim."""
    ended: Sequence[tuple[ClaimedJob, Transition]] = ()
    """Jobs that the store has ended since the last commit: as `failed`, because their rows are unreadable (each job as
    far as it is readable), or as `cancelled`, because they have expired, a parent has failed, or their batch was
    cancelled. Their `starts` is that of the last start."""
    enqueued: Sequence[Job] = ()
    """Callbacks of batches that have ended since the last commit."""


class HeldJob(NamedTuple):
    """A running job, without its payload."""

    id: int
    starts: int
    name: str

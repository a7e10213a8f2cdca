"""Batches: jobs that belong together, and what follows when all of them have ended. Parents of jobs. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, get_args

import msgspec

from mpdispatch.model.job import JobState, NewJob

BatchEvent = Literal["on_success", "on_failure", "on_end"]
"""`on_end`: every member has ended; `on_success`: and all completed; `on_failure`: and some did not, or the batch was
cancelled."""
BATCH_EVENTS: tuple[BatchEvent, ...] = get_args(BatchEvent)


class NewBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as handed to a store."""

    name: str
    callbacks: Mapping[BatchEvent, NewJob] = {}
    """The job that is enqueued at each event, once in the life of the batch. Its payload is `{"batch": id}`."""
    max_fails: int | None = None
    """With more failed members than this, the rest is cancelled; None: never."""
    max_fail_share: float | None = None
    """The same as a share of all members, more than 0 and less than 1; it counts once the batch is closed."""
    key: str | None = None
    """At most one batch has this key: opening another gives that one."""


class Callback(NamedTuple):
    """What a batch enqueues at one event."""

    name: str
    """Of its job's handler."""
    job_id: int | None
    """The job, once it is enqueued."""


class BatchInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as the store has it now. Times are aware UTC datetimes.

    A member that failed or was cancelled and was then enqueued again is no member any more; the new job is.
    """

    id: int
    name: str
    created_at: datetime
    started_at: datetime | None
    """When its first member started, as far as is known."""
    ended_at: datetime | None
    """When its last member ended; None: it is open, or some have not ended."""
    is_open: bool
    """Whether it takes more members; it does not end before it is closed."""
    cancelled_at: datetime | None
    """When it was cancelled, or had more failures than `max_fails`."""
    total: int
    """Number of members."""
    counts: Mapping[JobState, int]
    """Number of members in each state, zeros included."""
    callbacks: Mapping[BatchEvent, Callback]
    max_fails: int | None
    max_fail_share: float | None
    read_at: datetime
    """When this was read: the end of what `rate` counts, unless it has ended."""

    @property
    def done(self) -> int:
        """Number of members that have ended."""
        return sum(count for state, count in self.counts.items() if state.is_terminal)

    @property
    def progress(self) -> float:
        """The share of members that have ended, 0 to 1; of an empty batch 1 once it has ended."""
        if self.total == 0:
            return 0.0 if self.ended_at is None else 1.0
        return self.done / self.total

    @property
    def rate(self) -> float | None:
        """Ended members per second since the first one started; None: none has ended."""
        if not self.done or self.started_at is None:
            return None
        seconds = ((self.ended_at or self.read_at) - self.started_at).total_seconds()
        return self.done / seconds if seconds > 0 else None

    @property
    def eta_s(self) -> float | None:
        """Seconds until all present members have ended at this rate; 0 once it has ended, None if unknown."""
        if self.ended_at is not None:
            return 0.0
        rate = self.rate
        return None if rate is None else (self.total - self.done) / rate


class Member(NamedTuple):
    """A member of a batch, read quickly: JSON as it is stored."""

    id: int
    state: JobState
    payload: bytes
    result: bytes | None
    """Of a completed one."""
    retried_as: int | None
    """The job that has taken its place."""


class Enqueued(NamedTuple):
    """What `Store.enqueue_many` has stored."""

    batch_id: int | None
    """None: there were no jobs, and no batch was named."""
    ids: Sequence[int]
    """In the order of the jobs. For a job whose idempotency key is in use, that of the older job."""


class Parent(NamedTuple):
    """A job that another waits for, or waited for."""

    id: int
    state: JobState | None
    """None: it was pruned."""


def callback_payload(batch_id: int) -> bytes:
    """The arguments of a callback."""
    return msgspec.json.encode({"batch": batch_id})


def counts_of(
    *, total: int, ended: Mapping[JobState, int], running: int, later: Mapping[JobState, int]
) -> dict[JobState, int]:
    """The members in every state; those of which nothing else is known are pending."""
    found: dict[JobState, int] = dict.fromkeys(JobState, 0)
    found |= {**ended, **later, JobState.RUNNING: running}
    found[JobState.PENDING] = max(0, total - sum(found.values()))
    return found

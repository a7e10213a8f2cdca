"""What a store is given and gives, beside the values of `model`. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from mpdispatch.model import ClaimedJob, Transition

__all__ = ["CommitResult", "Durability", "HeldJob", "LeftBehind", "Progress", "QueueStats", "Renewal"]

Durability = Literal["full", "process"]
"""What is enqueued survives power loss, or any crash of processes."""


class QueueStats(msgspec.Struct, frozen=True, kw_only=True):
    """One queue: whether it is paused, and its jobs by state (every state, 0 included)."""

    name: str
    is_paused: bool
    jobs: Mapping[str, int]


class Progress(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a running handler said of how far it is; `data` is the JSON of done, total, message."""

    job_id: int
    starts: int
    data: bytes


class LeftBehind(NamedTuple):
    """What a drain leaves in its queues."""

    held: Mapping[str, int]
    """Due jobs nobody there could run, parked or in a paused queue, by reason."""
    scheduled: int
    """Jobs that are due later."""


class Renewal(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a heartbeat."""

    owned: tuple[tuple[int, int], ...]
    """(job id, starts) of every running row this supervisor owns, for reconciling."""


class CommitResult(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one turn of a supervisor's loop."""

    claimed: Sequence[ClaimedJob]
    """Sorted by (priority descending, run_at, id)."""
    rejected: Sequence[tuple[int, int]]
    """(job id, starts) of transitions that touched no row: the job was not this owner's any more."""
    parked: Mapping[str, int]
    """Jobs parked by this claim, by reason."""
    cancelled: Sequence[tuple[int, int]] = ()
    """(job id, starts) of jobs that were to run again, but somebody had asked to cancel them: they are cancelled."""
    has_more: bool
    """The claim took all it might; more may be due."""
    due_in_us: int | None = None
    """How long until the next scheduled or retrying job of the polled queues is due, from a moment within the call: who
    counts from the beginning of the call is not late. None if `has_more`: then nobody waits for it."""
    token_in_us: int | None = None
    """In the same way: until a rate-limited queue gets its next token, if that holds a due job back."""
    held_back: Mapping[str, int] = {}
    """Due jobs per rate-limited queue, at least so many, that have a token and were not claimed for want of a worker."""
    held_from: tuple[int, int, int] | None = None
    """(-priority, run_at, id) of the first of them; None: they come after all that was claimed."""
    is_synced: bool = True
    """False: this turn only claimed, and a power cut before `FileCare.sync` may forget that it did."""
    ended: Sequence[tuple[ClaimedJob, Transition]] = ()
    """Jobs whose rows cannot be read, ended as `failed` since the last turn; the job as far as it can be."""


class HeldJob(NamedTuple):
    """A running job in short."""

    id: int
    starts: int
    name: str

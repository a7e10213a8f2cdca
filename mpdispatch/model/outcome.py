"""How a start of a job ended (`Outcome`), and what that does to the job (`Transition`). Values only."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from mpdispatch.model.job import Cause, ErrorInfo, JobState

__all__ = [
    "Aborted",
    "Answer",
    "Cancelled",
    "Completed",
    "LeaseLost",
    "Outcome",
    "Raised",
    "Released",
    "RetryAsked",
    "Run",
    "Snoozed",
    "TimedOut",
    "Transition",
    "WorkerDied",
]


class Run(msgspec.Struct, frozen=True, kw_only=True, gc=False, array_like=True):
    """What is known of one execution. All times in microseconds."""

    started_us: int
    """Wall time of the handler's first line (of the claim, if it is not known better)."""
    duration_us: int | None = None
    worker_pid: int | None = None
    cpu_us: int | None = None
    max_rss_bytes: int | None = None


class Completed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The handler returned; `result` is JSON."""

    run: Run
    result: bytes


class Raised(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The handler raised. `is_retryable=False`: trying again cannot help (no JSON …)."""

    run: Run
    error: ErrorInfo
    is_retryable: bool = True
    exit_status: int | None = None
    """Of the command that was the job."""
    signal: str | None = None


class RetryAsked(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The handler raised `Retry`. `delay_us=None`: as the backoff says."""

    run: Run
    error: ErrorInfo
    delay_us: int | None


class Snoozed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The handler raised `Snooze`."""

    run: Run
    delay_us: int


class Cancelled(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The job was cancelled while it was claimed, by request or by its handler raising `Cancel`.

    `run=None`: its handler was not called yet.
    """

    run: Run | None
    error: ErrorInfo


class TimedOut(msgspec.Struct, frozen=True, kw_only=True):
    """The job ran past its timeout, whatever it answered afterwards."""

    run: Run
    error: ErrorInfo
    signal: str | None = None


class WorkerDied(msgspec.Struct, frozen=True, kw_only=True):
    """The worker process ended, or its channel broke, while the job ran."""

    run: Run
    error: ErrorInfo
    exit_status: int | None = None
    signal: str | None = None


class LeaseLost(msgspec.Struct, frozen=True, kw_only=True):
    """The supervisor that ran the job died or lost its lease after the handler was started (or maybe was)."""

    run: Run
    error: ErrorInfo


class Aborted(msgspec.Struct, frozen=True, kw_only=True):
    """A shutdown ended the job before it was done. No attempt is spent, unless it may never start twice."""

    run: Run
    error: ErrorInfo


class Released(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Claimed, never started, given back: its attempt is refunded."""


Outcome: TypeAlias = (
    Completed
    | Raised
    | RetryAsked
    | Snoozed
    | Cancelled
    | TimedOut
    | WorkerDied
    | LeaseLost
    | Aborted
    | Released
)


Answer: TypeAlias = Completed | Raised | RetryAsked | Snoozed | Cancelled
"""What a worker can say of a job; the other outcomes are what its supervisor sees."""


class Transition(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What to write for a running job, all of it in one transaction.

    It applies only to the row that is `running` with this `starts` (and the writer as owner).
    A transition without `run` leaves no attempt in the history: nothing was started.
    """

    job_id: int
    starts: int
    state: JobState
    attempt: int
    """The attempt count from now on; smaller than the claim's if it was refunded."""
    cause: Cause
    at_us: int
    """Wall time of the decision; `completed_at` if the state is terminal."""
    run_at_us: int | None = None
    """When it is due again; None keeps what the row has."""
    result: bytes | None = None
    error: ErrorInfo | None = None
    run: Run | None = None
    claim_attempt: int
    """The attempt this start counted as, for the history."""
    exit_status: int | None = None
    signal: str | None = None

    @property
    def is_dead_letter(self) -> bool:
        return self.state is JobState.FAILED

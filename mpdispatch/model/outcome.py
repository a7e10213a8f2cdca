"""How a start of a job ended (`Outcome`), and what that does to the job (`Transition`). Values only."""

from __future__ import annotations

from typing import ClassVar, TypeAlias

import msgspec

from mpdispatch.model.job import Cause, ErrorInfo, JobState


class Run(msgspec.Struct, frozen=True, kw_only=True, gc=False, array_like=True):
    """What is known of one execution. All times in microseconds."""

    started_us: int
    """Wall time at which the handler was called; of the claim, if that is unknown."""
    duration_us: int | None = None
    worker_pid: int | None = None
    cpu_us: int | None = None
    max_rss_bytes: int | None = None


class Completed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The handler returned; `result` is JSON."""

    run: Run
    result: bytes


class _WithoutResult(msgspec.Struct, frozen=True, kw_only=True):
    """What any other outcome may know; None: it does not. `cause` stands in the history."""

    cause: ClassVar[Cause]
    run: Run | None = None
    error: ErrorInfo | None = None
    exit_status: int | None = None
    signal: str | None = None


class _Unsuccessful(_WithoutResult, frozen=True, kw_only=True):
    run: Run
    error: ErrorInfo


class Raised(_Unsuccessful, frozen=True, kw_only=True, tag=True):
    """The handler raised. `exit_status` and `signal` are those of a command job's command."""

    cause = Cause.ERROR
    is_retryable: bool = True
    """False: a retry would fail in the same way (a result that is no JSON …)."""


class RetryAsked(_Unsuccessful, frozen=True, kw_only=True, tag=True):
    """The handler raised `Retry`. `delay_us=None`: as the backoff says."""

    cause = Cause.RETRY
    delay_us: int | None


class Snoozed(_WithoutResult, frozen=True, kw_only=True, tag=True):
    """The handler raised `Snooze`."""

    cause = Cause.SNOOZE
    run: Run
    delay_us: int


class Cancelled(_WithoutResult, frozen=True, kw_only=True, tag=True):
    """The job was cancelled while a supervisor had it: by request, or because its handler raised `Cancel`.

    `run=None`: its handler had not been called.
    """

    cause = Cause.CANCELLED
    run: Run | None
    error: ErrorInfo


class Expired(_WithoutResult, frozen=True, kw_only=True, tag=True):
    """It was not to be started so late, so its handler was not called."""

    cause = Cause.EXPIRED
    error: ErrorInfo


class TimedOut(_Unsuccessful, frozen=True, kw_only=True):
    """The job ran past its timeout. What it answered afterwards does not count."""

    cause = Cause.TIMEOUT


class WorkerDied(_Unsuccessful, frozen=True, kw_only=True):
    """The worker process ended, or its channel broke, while the job ran."""

    cause = Cause.WORKER_DIED


class LeaseLost(_Unsuccessful, frozen=True, kw_only=True):
    """The supervisor of the job died or lost its lease, and the handler was called, or may have been."""

    cause = Cause.LEASE_LOST


class Aborted(_Unsuccessful, frozen=True, kw_only=True):
    """A shutdown ended the job. The attempt is refunded, unless the job may never start twice."""

    cause = Cause.ABORTED


class Released(_WithoutResult, frozen=True, kw_only=True, gc=False):
    """The job was claimed and given back without being started. The attempt is refunded."""

    cause = Cause.RELEASED


Answer: TypeAlias = Completed | Raised | RetryAsked | Snoozed | Cancelled | Expired
"""The outcomes that a worker reports. Its supervisor observes the others."""

NotCompleted: TypeAlias = (
    Raised | RetryAsked | Snoozed | Cancelled | Expired | TimedOut | WorkerDied | LeaseLost | Aborted | Released
)
Outcome: TypeAlias = Completed | NotCompleted


class Transition(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What to write for a running job, all of it in one transaction.

    It applies only to a row that is `running` with this `starts` and with the writer as its owner. A transition without
    `run` adds no attempt to the history, because nothing was started; an expiry does, to stand there.
    """

    job_id: int
    starts: int
    state: JobState
    attempt: int
    """The attempts spent from now on: one less than at the claim, if the attempt is refunded."""
    cause: Cause
    at_us: int
    """Wall time of the decision; `completed_at` if the state is terminal."""
    run_at_us: int | None = None
    """When the job is due again; None: the row keeps its value."""
    result: bytes | None = None
    error: ErrorInfo | None = None
    run: Run | None = None
    claim_attempt: int
    """The number of this attempt, for the history."""
    exit_status: int | None = None
    signal: str | None = None

    @property
    def is_in_history(self) -> bool:
        """Whether it adds an attempt to the history."""
        return self.run is not None or self.cause is Cause.EXPIRED

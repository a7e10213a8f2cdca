"""What the outcome of a start does to its job: the one place where states change. Pure: no I/O, no clock.

Completed ─▶ completed        Cancelled ─▶ cancelled        Snoozed ─▶ scheduled, refunded
Expired ─▶ cancelled, refunded
Raised, RetryAsked, TimedOut, WorkerDied, LeaseLost ─▶ retrying, or failed when the budget is spent
Released ─▶ pending, refunded        Aborted ─▶ pending, refunded; failed if it may never start twice
"""

from __future__ import annotations

from typing import NamedTuple, assert_never

import msgspec

from mpdispatch.clock import LATEST_US, SECOND_US
from mpdispatch.model import (
    Aborted,
    Cancelled,
    Cause,
    ClaimedJob,
    Completed,
    Expired,
    JobState,
    LeaseLost,
    Outcome,
    Raised,
    Released,
    RetryAsked,
    Snoozed,
    TimedOut,
    Transition,
    WorkerDied,
)
from mpdispatch.model.outcome import NotCompleted
from mpdispatch.policy.backoff import DEFAULT, Backoff


class RetryRules(msgspec.Struct, frozen=True, kw_only=True):
    """How a job is tried again: its own backoff, or its engine's."""

    backoff: Backoff = DEFAULT


def decide(job: ClaimedJob, outcome: Outcome, rules: RetryRules, *, now_us: int, jitter: float) -> Transition:
    """The state a running job goes to, and what to write with it.

    `job.attempt` counts this start already: the claim spent it. A raised error, `Retry`, a timeout, a crash and a lost
    lease keep it spent; the job is tried again while `attempt <= max_retries`, else it fails (a dead letter). A snooze,
    a release, an expiry and a shutdown refund it. A job with `max_retries=0` may never start twice, so one that a
    shutdown cut off fails. It may snooze, though: then the start ended by itself.

    `now_us` is wall time, `jitter` in [0, 1) the only randomness.

    >>> from mpdispatch.model import ErrorInfo, Run
    >>> job = ClaimedJob(id=1, starts=1, attempt=1, name="send", queue="default", priority=0, run_at_us=0,
    ...                  max_retries=3, timeout_us=None, idempotency_key=None, payload=b"{}")
    >>> outcome = Raised(run=Run(started_us=0), error=ErrorInfo(type="OSError", message="no route"))
    >>> after = decide(job, outcome, RetryRules(), now_us=1_000_000, jitter=0.5)
    >>> after.state, after.attempt, after.run_at_us
    (<JobState.RETRYING: 'retrying'>, 1, 1500000)
    """
    if isinstance(outcome, Completed):
        # First, and without a helper: nearly every job ends here.
        return Transition(
            job_id=job.id,
            starts=job.starts,
            state=JobState.COMPLETED,
            attempt=job.attempt,
            cause=Cause.COMPLETED,
            at_us=now_us,
            result=outcome.result,
            run=outcome.run,
            claim_attempt=job.attempt,
        )
    place = _place_of(job, outcome, rules, now_us, jitter)
    return Transition(
        job_id=job.id,
        starts=job.starts,
        state=place.state,
        attempt=job.attempt - place.refund,
        cause=outcome.cause,
        at_us=now_us,
        run_at_us=place.run_at_us,
        error=outcome.error,
        run=outcome.run,
        claim_attempt=job.attempt,
        exit_status=outcome.exit_status,
        signal=outcome.signal,
    )


class _Place(NamedTuple):
    """Where a job goes. `run_at_us=None` keeps the row's; `refund` is subtracted from the attempts spent."""

    state: JobState
    run_at_us: int | None = None
    refund: int = 0


_FAILED = _Place(JobState.FAILED)
_CANCELLED = _Place(JobState.CANCELLED)
_EXPIRED = _Place(JobState.CANCELLED, refund=1)
# The job keeps its run_at, and so its turn among the jobs of its priority.
_GIVEN_BACK = _Place(JobState.PENDING, refund=1)


def _place_of(job: ClaimedJob, outcome: NotCompleted, rules: RetryRules, now_us: int, jitter: float) -> _Place:
    match outcome:
        case Released():
            return _GIVEN_BACK
        case Cancelled():
            return _CANCELLED
        case Expired():
            return _EXPIRED
        case Snoozed():
            return _later(JobState.SCHEDULED, outcome.delay_us, now_us, refund=1)
        case Aborted():
            # It has begun. With max_retries=0 a release would start it a second time.
            return _FAILED if job.max_retries == 0 else _GIVEN_BACK
        case Raised(is_retryable=False):
            return _FAILED
        case Raised() | RetryAsked() | TimedOut() | WorkerDied() | LeaseLost():
            return _retry(job, outcome, rules, now_us, jitter)
        case _:
            assert_never(outcome)


def _retry(job: ClaimedJob, outcome: NotCompleted, rules: RetryRules, now_us: int, jitter: float) -> _Place:
    if job.attempt > job.max_retries:
        return _FAILED
    delay_us = outcome.delay_us if isinstance(outcome, RetryAsked) else None
    if delay_us is None:
        delay_us = round(rules.backoff.delay_s(job.attempt, jitter) * SECOND_US)
    return _later(JobState.RETRYING, delay_us, now_us)


def _later(state: JobState, delay_us: int, now_us: int, *, refund: int = 0) -> _Place:
    # run_at moves to now even without a delay. With the old run_at the job would be first in its priority again, and a
    # job that always asks to run again at once would keep all others from running.
    if delay_us <= 0:
        return _Place(JobState.PENDING, now_us, refund)
    return _Place(state, max(now_us, min(now_us + delay_us, LATEST_US)), refund)

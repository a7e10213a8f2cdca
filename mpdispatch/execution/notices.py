"""What the supervisor's loop and an enqueue know of a change, and the events made of it later, on another thread. Pure.

Noting something costs the loop one small object; the events, with their times and texts, are made by who calls the hooks.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeAlias

import msgspec

from mpdispatch.hooks import (
    CronFired,
    Event,
    JobCompleted,
    JobDeadLettered,
    JobEnqueued,
    JobFailed,
    JobRetrying,
    JobStarted,
    Shutdown,
)
from mpdispatch.model import Cause, ClaimedJob, ErrorInfo, Job, JobState, NewJob, Transition

__all__ = [
    "Began",
    "Kept",
    "Notice",
    "Recorded",
    "Told",
    "decode_events",
    "encode_events",
    "ended",
    "enqueued",
    "events_of",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A snooze, a release and an aborted drain give the attempt back: nothing failed.
_FAILURES = frozenset({Cause.ERROR, Cause.RETRY, Cause.TIMEOUT, Cause.WORKER_DIED, Cause.LEASE_LOST})


class Began(NamedTuple):
    """A handler was called."""

    job: ClaimedJob
    started_us: int
    worker_pid: int | None

    def events(self) -> Iterator[Event]:
        job = self.job
        yield JobStarted(
            job_id=job.id,
            name=job.name,
            queue=job.queue,
            at=_moment(self.started_us),
            starts=job.starts,
            attempt=job.attempt,
            max_retries=job.max_retries,
            worker_pid=self.worker_pid,
        )


class Recorded(NamedTuple):
    """An outcome is on disk."""

    job: ClaimedJob
    transition: Transition

    def events(self) -> Iterator[Event]:
        job, transition = self.job, self.transition
        run, at = transition.run, _moment(transition.at_us)
        pid = None if run is None else run.worker_pid
        duration_s = None if run is None or run.duration_us is None else run.duration_us / 1e6
        # In full and not by **common: one is made for nearly every job.
        if transition.state is JobState.COMPLETED:
            yield JobCompleted(
                job_id=job.id,
                name=job.name,
                queue=job.queue,
                at=at,
                starts=job.starts,
                attempt=transition.claim_attempt,
                max_retries=job.max_retries,
                worker_pid=pid,
                duration_s=duration_s,
            )
            return
        common = {
            "job_id": job.id,
            "name": job.name,
            "queue": job.queue,
            "at": at,
            "starts": job.starts,
            "attempt": transition.claim_attempt,
            "max_retries": job.max_retries,
            "worker_pid": pid,
            "cause": transition.cause,
            "error": transition.error or ErrorInfo(type=str(transition.cause), message=""),
        }
        if transition.state is JobState.FAILED:
            yield JobFailed(**common, duration_s=duration_s)  # type: ignore[arg-type]  # a mixed dict
            yield JobDeadLettered(**common)  # type: ignore[arg-type]
        elif transition.state is not JobState.CANCELLED and transition.cause in _FAILURES:
            run_at = at if transition.run_at_us is None else _moment(transition.run_at_us)
            yield JobRetrying(**common, duration_s=duration_s, run_at=run_at)  # type: ignore[arg-type]


class Kept(NamedTuple):
    """Jobs were enqueued together, under these ids."""

    template: NewJob
    ids: range
    batch_id: int
    at_us: int

    def events(self) -> Iterator[Event]:
        job, at = self.template, _moment(self.at_us)
        run_at = at if job.run_at_us is None else _moment(job.run_at_us)
        for job_id in self.ids:
            yield JobEnqueued(
                job_id=job_id,
                name=job.name,
                queue=job.queue,
                at=at,
                priority=job.priority,
                run_at=run_at,
                batch_id=self.batch_id,
            )


class Told(NamedTuple):
    """Events another process told of, as JSON."""

    data: bytes

    def events(self) -> Iterator[Event]:
        yield from decode_events(self.data)


Notice: TypeAlias = Event | Began | Recorded | Kept | Told


def enqueued(job: Job, *, is_committed: bool) -> JobEnqueued:
    """The event of one enqueue."""
    return JobEnqueued(
        job_id=job.id,
        name=job.name,
        queue=job.queue,
        at=job.created_at,
        priority=job.priority,
        run_at=job.run_at,
        idempotency_key=job.idempotency_key,
        batch_id=job.batch_id,
        retried_from=job.retried_from,
        is_committed=is_committed,
    )


def ended(now_us: int, *, exit_code: int, completed: int, failed: int) -> Shutdown:
    """The event of a supervisor's end."""
    return Shutdown(at=_moment(now_us), exit_code=exit_code, completed=completed, failed=failed)


def events_of(notice: Notice) -> Iterator[Event]:
    """The events a notice stands for, in order."""
    if isinstance(notice, Began | Recorded | Kept | Told):
        yield from notice.events()
    else:
        yield notice


encode_events = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(
    list[
        JobEnqueued
        | JobStarted
        | JobCompleted
        | JobFailed
        | JobRetrying
        | JobDeadLettered
        | CronFired
        | Shutdown
    ]
)


def decode_events(data: bytes) -> list[Event]:
    """Events as `encode_events` wrote a list of them. Raises msgspec.DecodeError."""
    events: list[Event] = _decoder.decode(data)
    return events


def _moment(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)

"""Notices of what happened to jobs, and the events made of them later. Pure.

A notice costs the supervisor's loop, or an enqueue, one small object. The thread that calls the hooks makes the events
of it, with their times and texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import msgspec

from mpdispatch.hooks import (
    HOOKS,
    CronFired,
    CronLate,
    Event,
    JobCompleted,
    JobDeadLettered,
    JobEnqueued,
    JobFailed,
    JobRetrying,
    JobStarted,
    Shutdown,
)
from mpdispatch.model import Cause, ClaimedJob, CronEntry, ErrorInfo, Job, JobState, NewJob, Transition

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FAR_US = 4_102_444_800_000_000
"""The year 2100, up to which a float of seconds is exact enough."""
# A snooze, a release and an aborted drain refund the attempt: nothing failed.
_FAILURES = frozenset({Cause.ERROR, Cause.RETRY, Cause.TIMEOUT, Cause.WORKER_DIED, Cause.LEASE_LOST})


class Began(msgspec.Struct, frozen=True, gc=False):
    """A handler was called."""

    job: ClaimedJob
    started_us: int
    worker_pid: int | None

    def events(self) -> Iterable[Event]:
        job = self.job
        started = JobStarted(
            job_id=job.id,
            name=job.name,
            queue=job.queue,
            at=_moment(self.started_us),
            starts=job.starts,
            attempt=job.attempt,
            max_retries=job.max_retries,
            worker_pid=self.worker_pid,
        )
        return (started,)


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """An outcome is on disk."""

    job: ClaimedJob
    transition: Transition

    def events(self) -> Iterable[Event]:
        job, transition = self.job, self.transition
        run, at = transition.run, _moment(transition.at_us)
        pid = None if run is None else run.worker_pid
        duration_s = None if run is None or run.duration_us is None else run.duration_us / 1e6
        # Written out, without **common: nearly every job makes one.
        if transition.state is JobState.COMPLETED:
            completed = JobCompleted(
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
            return (completed,)
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
            failed = JobFailed(**common, duration_s=duration_s)  # type: ignore[arg-type]  # a mixed dict
            return (failed, JobDeadLettered(**common))  # type: ignore[arg-type]
        if transition.state is not JobState.CANCELLED and transition.cause in _FAILURES:
            run_at = at if transition.run_at_us is None else _moment(transition.run_at_us)
            return (JobRetrying(**common, duration_s=duration_s, run_at=run_at),)  # type: ignore[arg-type]
        return ()


class EnqueuedMany(msgspec.Struct, frozen=True, gc=False):
    """Jobs were enqueued together, under these ids."""

    template: NewJob
    ids: Sequence[int]
    batch_id: int
    at_us: int

    def events(self) -> Iterable[Event]:
        job, at = self.template, _moment(self.at_us)
        run_at = _moment(job.due_us(self.at_us))
        return [
            JobEnqueued(
                job_id=job_id,
                name=job.name,
                queue=job.queue,
                at=at,
                priority=job.priority,
                run_at=run_at,
                batch_id=self.batch_id,
            )
            for job_id in self.ids
        ]


class Forwarded(msgspec.Struct, frozen=True, gc=False):
    """Events that came from another process, as JSON."""

    data: bytes

    def events(self) -> Iterable[Event]:
        return decode_events(self.data)


Notice: TypeAlias = Event | Began | Recorded | EnqueuedMany | Forwarded


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


def fired(entry: str, job: Job) -> CronFired:
    """The event of a firing, whose job is new."""
    return CronFired(
        job_id=job.id,
        name=job.name,
        queue=job.queue,
        at=job.created_at,
        entry=entry,
        slot_at=job.slot or job.run_at,
    )


def late(entry: CronEntry, since_us: int, now_us: int) -> CronLate:
    """The event of an entry that is late now."""
    job, success_us = entry.spec.job, entry.last_success_us
    return CronLate(
        entry=entry.spec.name,
        name=job.name,
        queue=job.queue,
        at=_moment(now_us),
        late_since=_moment(since_us),
        last_success_at=None if success_us is None else _moment(success_us),
        last_job_id=entry.last_job_id,
    )


def ended(now_us: int, *, exit_code: int, completed: int, failed: int) -> Shutdown:
    """The event of a supervisor's end."""
    return Shutdown(at=_moment(now_us), exit_code=exit_code, completed=completed, failed=failed)


def events_of(notice: Notice) -> Iterable[Event]:
    """The events a notice stands for, in order."""
    if type(notice) in _EVENTS:  # five times as fast as isinstance
        return (notice,)  # type: ignore[return-value]
    return notice.events()  # type: ignore[union-attr]


_EVENTS = frozenset(HOOKS)

encode_events = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(list[Event])


def decode_events(data: bytes) -> list[Event]:
    """The list of events that `encode_events` wrote. Raises msgspec.DecodeError."""
    events: list[Event] = _decoder.decode(data)
    return events


def _moment(us: int) -> datetime:
    # A float of seconds is exact to a quarter of a µs until 2100, and takes half the time.
    return datetime.fromtimestamp(us / 1e6, UTC) if us < _FAR_US else _EPOCH + timedelta(microseconds=us)

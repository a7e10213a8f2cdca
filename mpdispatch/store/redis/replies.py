"""Parts of replies that are not jobs as people see them: what the store has ended by itself, and what followed. Pure."""

from __future__ import annotations

import msgspec

from mpdispatch.model import Cause, ClaimedJob, ErrorInfo, Job, JobState, Transition
from mpdispatch.policy.expiry import expired
from mpdispatch.store.redis.link import Reply
from mpdispatch.store.redis.records import Extra, JobRecord, claimed_job_of, error_of, job_of

Ended = tuple[ClaimedJob, Transition]

_BATCH_CANCELLED = ErrorInfo(type="JobCancelledError", message="its batch was cancelled")


def followed_of(reply: Reply, first: int) -> tuple[list[Ended], list[Job]]:
    """Jobs that the store has ended, and callbacks; their records begin at this place."""
    now_us: int = reply.said["now"]
    kinds = reply.said.get("ended") or ()
    ended = [
        _ended(kind, expires_at_us or None, reply.records[place], now_us)
        for place, (kind, expires_at_us) in enumerate(kinds, first)
    ]
    after = first + len(ended)
    callbacks = [
        job_of(reply.records[place], as_enqueued(reply.extra_at(place)))
        for place in range(after, after + (reply.said.get("callbacks") or 0))
    ]
    return ended, callbacks


def as_enqueued(extra: Extra) -> Extra:
    """Nobody looks then whether the queue is paused."""
    return msgspec.structs.replace(extra, is_paused=False)


def _ended(kind: str, expires_at_us: int | None, record: JobRecord, now_us: int) -> Ended:
    job = claimed_job_of(record, expires_at_us=expires_at_us)
    if kind == "expired":
        return job, expired(job, now_us)
    error = error_of(record.error)
    if error is None or error.type != "ParentFailedError":
        error = _BATCH_CANCELLED
    return job, Transition(
        job_id=job.id,
        starts=job.starts,
        state=JobState.CANCELLED,
        attempt=job.attempt,
        cause=Cause.CANCELLED,
        at_us=now_us,
        error=error,
        claim_attempt=job.attempt,
    )

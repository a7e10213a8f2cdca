"""Arguments of calls as the Lua library takes them: maps without what has no value. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from mpdispatch.errors import UsageError
from mpdispatch.model import AlikeJobs, ClaimRequest, JobState, NewBatch, NewJob, Transition
from mpdispatch.policy.admission import refusing_app
from mpdispatch.policy.rate import Rate
from mpdispatch.store.filters import BatchFilter, DeadLetterFilter, JobFilter

MOST = (1 << 53) - 1
"""The server counts in floats: its whole numbers end here."""
_MAX_RETRIES = 3

_json = msgspec.json.Encoder().encode


def text_of(data: bytes) -> str:
    """JSON as text. Raises UsageError: it is not valid UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"JSON must be valid UTF-8: {error}") from error


def _whole(field: str, value: int) -> int:
    if not -MOST <= value <= MOST:
        raise UsageError(f"{field}: a Redis store takes whole numbers from {-MOST} to {MOST}, not {value}")
    return value


def new_job(job: NewJob) -> dict[str, Any]:
    """Of a new job, all but its payload if that is empty. Raises UsageError."""
    found: dict[str, Any] = {"name": job.name, "queue": job.queue}
    if job.payload:
        found["payload"] = text_of(job.payload)
    if job.priority:
        found["priority"] = _whole("priority", job.priority)
    if job.max_retries != _MAX_RETRIES:
        found["retries"] = _whole("max_retries", job.max_retries)
    more = {
        "run": job.run_at_us,
        "delay": job.delay_us or None,
        "timeout": job.timeout_us,
        "key": job.idempotency_key,
        "from": job.retried_from,
        "trace": job.trace_context,
        "slot": job.slot_us,
        "expires": job.expires_at_us,
        "expires_in": job.expires_us,
        "batch": job.batch_id,
        "after": job.after or None,
        "parents_made": job.parents_created_us or None,
        "policy": None if job.on_parent_failure == "cancel" else job.on_parent_failure,
    }
    return found | _with_values(more)


def _with_values(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def new_jobs(jobs: Sequence[NewJob]) -> dict[str, Any]:
    """Of many, whose own batches do not count."""
    if isinstance(jobs, AlikeJobs):
        return {"template": _member(jobs.template), "payloads": [text_of(each) for each in jobs.payloads]}
    return {"jobs": [_member(job) for job in jobs]}


def _member(job: NewJob) -> dict[str, Any]:
    found = new_job(job)
    found.pop("batch", None)
    return found


def new_batch(batch: NewBatch) -> dict[str, Any]:
    callbacks = {}
    for event, job in batch.callbacks.items():
        bare = msgspec.structs.replace(job, payload=b"", batch_id=None, after=())
        callbacks[event] = new_job(bare)
    found = {
        "name": batch.name,
        "calls": callbacks or None,
        "max": batch.max_fails,
        "share": batch.max_fail_share,
        "key": batch.key,
    }
    return _with_values(found)


# A struct: hundreds are made in a commit.
class Ended(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An outcome."""

    id: int
    starts: int
    state: JobState
    at: int
    attempt: int
    run: int | None = None
    pid: int | None = None
    took: int | None = None
    cpu: int | None = None
    rss: int | None = None
    result: str | None = None
    error: str | None = None
    began: int | None = None
    """When its handler was called; None: it was not."""
    history: str | None = None
    """None: its record says it all, or there is nothing to say."""


def ended(transition: Transition) -> Ended:
    """An outcome, with what its job's history keeps of it."""
    run, result = transition.run, transition.result
    if run is None:
        pid = took = cpu = rss = began = None
    else:
        began, took, pid, cpu, rss = (
            run.started_us,
            run.duration_us,
            run.worker_pid,
            run.cpu_us,
            run.max_rss_bytes,
        )
    error = None if transition.error is None else _json(transition.error).decode("utf-8", "replace")
    return Ended(
        transition.job_id,
        transition.starts,
        transition.state,
        transition.at_us,
        transition.attempt,
        transition.run_at_us,
        pid,
        took,
        cpu,
        rss,
        None if result is None else text_of(result),
        error,
        began,
        _history(transition),
    )


def _history(ended: Transition) -> str | None:
    if not ended.is_in_history:
        return None
    run = ended.run
    is_plain = (
        ended.state is JobState.COMPLETED
        and ended.cause.value == "completed"
        and ended.error is None
        and ended.attempt == ended.claim_attempt
        and ended.exit_status is None
        and ended.signal is None
    )
    if is_plain:
        return None
    return _json(
        [
            *(ended.starts, ended.claim_attempt, ended.cause),
            *(ended.at_us if run is None else run.started_us, ended.at_us),
            *((None, None) if run is None else (run.duration_us, run.worker_pid)),
            *(ended.error, ended.exit_status, ended.signal),
            *((None, None) if run is None else (run.cpu_us, run.max_rss_bytes)),
        ]
    ).decode("utf-8", "replace")


def claim(request: ClaimRequest, *, skips_look: bool) -> dict[str, Any]:
    """What a supervisor asks for, with its limits as the server applies them."""
    found: dict[str, Any] = {"queues": request.queues, "slots": request.slots, "skips_look": skips_look}
    if request.ready is not None:
        found["ready"] = request.ready
    if request.names is not None:
        found |= _names(request.names, request.app)
    limits = dict[str, Any]()
    for queue, limit in request.limits.items():
        if queue in request.queues:
            of_queue: dict[str, Any] = {}
            if limit.max_concurrency is not None:
                of_queue["most"] = limit.max_concurrency
            if limit.rate is not None:
                of_queue["rate"] = _table(limit.rate, limit.burst, max(request.slots, 1))
                found["is_rated"] = True
            limits[queue] = of_queue
    if limits:
        found["limits"] = limits
    return found


@lru_cache(maxsize=16)
def _names(names: frozenset[str], app: str) -> dict[str, Any]:
    refusal = refusing_app(ClaimRequest(queues=(), names=names, app=app))
    return {"names": dict.fromkeys(names, True), "refusal": refusal}


@lru_cache(maxsize=256)
def _table(rate: float, burst: int, most: int) -> Mapping[str, Any]:
    return Rate(rate, burst).table(most)._asdict()


def where_jobs(where: JobFilter) -> dict[str, Any]:
    found = {"state": where.state, "queue": where.queue, "name": where.name, "batch": where.batch_id}
    return _with_values(found)


def where_letters(where: DeadLetterFilter) -> dict[str, Any]:
    found = {
        "queue": where.queue,
        "name": where.name,
        "is_replayed": where.is_replayed,
        "failed_before": where.failed_before_us,
        "batch": where.batch_id,
        "error": where.error,
    }
    return _with_values(found)


def where_batches(where: BatchFilter) -> dict[str, Any]:
    found = {"name": where.name, "has_ended": where.has_ended}
    return _with_values(found)

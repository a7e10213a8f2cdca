"""Rows into values and back. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from mpdispatch.model import Attempt, Cause, ErrorInfo, Job, JobState, NewJob, PeerSupervisor

__all__ = [
    "INLINE_BYTES",
    "Row",
    "attempt_of",
    "encode_error",
    "fresh_job",
    "job_of",
    "line_of",
    "moment",
    "new_job_row",
    "reason_of_pause",
    "stored_json",
    "supervisor_of",
]

Row = Sequence[Any]

INLINE_BYTES = 1024
"""Larger payloads and results stand in tables of their own."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LINES = {JobState.PENDING: 1, JobState.SCHEDULED: 2, JobState.RETRYING: 2}
encode_error: Callable[[ErrorInfo], bytes] = msgspec.json.Encoder().encode
_decode_error = msgspec.json.Decoder(ErrorInfo).decode


def moment(us: int) -> datetime:
    """Microseconds since the epoch as an aware datetime.

    >>> moment(1_500_000).isoformat()
    '1970-01-01T00:00:01.500000+00:00'
    """
    return _EPOCH + timedelta(0, 0, us)  # by place: the keyword costs half as much again


def _moment_or_none(us: int | None) -> datetime | None:
    return None if us is None else moment(us)


def _seconds(us: int | None) -> float | None:
    return None if us is None else us / 1e6


def stored_json(data: bytes) -> str | bytes:
    """JSON as TEXT, so SQLite's json functions and Datasette can read it; what is no UTF-8 stays a BLOB."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _json(stored: str | bytes) -> Any:
    # A value somebody changed by hand must not hide the job, let alone the whole list, from whoever looks.
    try:
        return msgspec.json.decode(stored)
    except (msgspec.DecodeError, UnicodeError):
        return f"<not JSON: {len(stored)} bytes>"


def _error(stored: str | bytes | None) -> ErrorInfo | None:
    if stored is None:
        return None
    try:
        return _decode_error(stored)
    except (msgspec.DecodeError, UnicodeError):
        return ErrorInfo(type="UnreadableError", message=f"<not JSON: {len(stored)} bytes>")


def line_of(state: JobState) -> int | None:
    """The line (see schema.sql) of a job in this state that is not parked."""
    return _LINES.get(state)


def new_job_row(job: NewJob, payload: str | bytes | None, now_us: int) -> tuple[Any, ...]:
    """Parameters of `insert_job`."""
    run_at_us = now_us if job.run_at_us is None else job.run_at_us
    is_due = run_at_us <= now_us
    return (
        job.name,
        job.queue,
        "pending" if is_due else "scheduled",
        1 if is_due else 2,
        job.priority,
        run_at_us,
        job.max_retries,
        job.timeout_us,
        now_us,
        job.idempotency_key,
        job.retried_from,
        payload,
        job.trace_context,
    )


def fresh_job(job: NewJob, job_id: int, now_us: int) -> Job:
    """The Job that `insert_job` has just made, without reading it back."""
    run_at_us = now_us if job.run_at_us is None else job.run_at_us
    payload, created_at = _json(job.payload), moment(now_us)
    return Job(
        id=job_id,
        name=job.name,
        queue=job.queue,
        state=JobState.PENDING if run_at_us <= now_us else JobState.SCHEDULED,
        priority=job.priority,
        payload=payload if isinstance(payload, dict) else {"": payload},
        attempt=0,
        starts=0,
        max_retries=job.max_retries,
        run_at=created_at if run_at_us == now_us else moment(run_at_us),
        created_at=created_at,
        started_at=None,
        completed_at=None,
        timeout=_seconds(job.timeout_us),
        idempotency_key=job.idempotency_key,
        last_error=None,
        result=None,
        progress=None,
        batch_id=None,
        retried_from=job.retried_from,
        blocked_reason=None,
        worker_pid=None,
        cpu_s=None,
        max_rss_bytes=None,
    )


def reason_of_pause(queue: str) -> str:
    """Why a due job of a paused queue is not claimed."""
    return f"queue {queue!r} is paused"


def job_of(row: Row, *, created: bool = True) -> Job:
    """A row of the query `jobs`."""
    payload = _json(row[5]) if row[5] is not None else {}
    progress = None if row[17] is None else _json(row[17])
    state = JobState(row[3])
    blocked_reason = row[20]
    if blocked_reason is None and row[24] and state is JobState.PENDING:
        blocked_reason = reason_of_pause(row[2])
    return Job(
        id=row[0],
        name=row[1],
        queue=row[2],
        state=state,
        priority=row[4],
        payload=payload if isinstance(payload, dict) else {"": payload},
        attempt=row[6],
        starts=row[7],
        max_retries=row[8],
        run_at=moment(row[9]),
        created_at=moment(row[10]),
        started_at=_moment_or_none(row[11]),
        completed_at=_moment_or_none(row[12]),
        timeout=_seconds(row[13]),
        idempotency_key=row[14],
        last_error=_error(row[15]),
        result=None if row[16] is None else _json(row[16]),
        progress=progress if isinstance(progress, dict) else None,
        batch_id=row[18],
        retried_from=row[19],
        blocked_reason=blocked_reason,
        worker_pid=row[21],
        cpu_s=_seconds(row[22]),
        max_rss_bytes=row[23],
        created=created,
    )


def attempt_of(row: Row) -> Attempt:
    """A row of the query `attempts`."""
    return Attempt(
        job_id=row[0],
        starts=row[1],
        attempt=row[2],
        cause=Cause(row[3]),
        started_at=moment(row[4]),
        finished_at=moment(row[5]),
        duration_s=_seconds(row[6]),
        worker_pid=row[7],
        error=_error(row[8]),
        exit_status=row[9],
        signal=row[10],
        cpu_s=_seconds(row[11]),
        max_rss_bytes=row[12],
    )


def supervisor_of(row: Row) -> PeerSupervisor:
    """A row of the query `supervisors`."""
    return PeerSupervisor(
        id=row[0],
        host=row[1],
        machine_id=row[2],
        boot_id=row[3],
        pid=row[4],
        pid_start=row[5],
        pid_namespace=row[6],
        queues=tuple(msgspec.json.decode(row[7], type=list[str])),
        concurrency=row[8],
        app=row[9],
        version=row[10],
        started_us=row[11],
        heartbeat_us=row[12],
        lease_until_us=row[13],
        lease_until_boot_us=row[14],
        token=row[15],
    )

"""Records of jobs as the server keeps them, and the values that others see of them. Pure.

A record is a MessagePack map without the fields that have no value. The names of its fields are those of `JobRecord`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from mpdispatch.clock import EARLIEST_US, LATEST_US
from mpdispatch.model import Attempt, Cause, ClaimedJob, DeadLetter, ErrorInfo, Failure, Job, JobState, Member
from mpdispatch.policy.admission import refusal_text
from mpdispatch.policy.expiry import expiry_error
from mpdispatch.store.redis.reasons import reason_of_parents, reason_of_pause

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class JobRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A job as it is stored. Times are wall times in µs."""

    id: int
    name: str
    queue: str
    state: JobState
    priority: int = 0
    payload: str | None = None
    """JSON; None: it is in a key of its own."""
    made: int
    run: int
    """When it is due."""
    attempt: int = 0
    starts: int = 0
    retries: int = 3
    """The most."""
    began: int | None = None
    done: int | None = None
    timeout: int | None = None
    key: str | None = None
    """Its idempotency key."""
    error: str | None = None
    """The last one: the JSON of an ErrorInfo."""
    result: str | None = None
    progress: str | None = None
    batch: int | None = None
    from_id: int | None = msgspec.field(default=None, name="from")
    """The job that it is in the place of."""
    again: int | None = None
    """The job that has taken its place."""
    blocked: str | None = None
    """Parked: see `reasons`."""
    open: Sequence[int] = ()
    """The parents that it still waits for."""
    after: Sequence[int] = ()
    pid: int | None = None
    took: int | None = None
    """How long its last start ran, in µs."""
    cpu: int | None = None
    rss: int | None = None
    slot: int | None = None
    expires: int | None = None
    trace: str | None = None
    whole: bool = False
    """This record itself is the history of its last start, which completed."""
    failed: int | None = None
    """When it got its dead letter."""
    replayed: int | None = None
    replayed_as: int | None = None
    letter: int | None = None
    """The number of its dead letter."""


class _State(msgspec.Struct, gc=False):
    state: JobState


class Extra(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What of a job is not in its record."""

    payload: str | None = None
    result: str | None = None
    is_paused: bool = False
    """It is due, and its queue is paused."""


NO_EXTRA = Extra()


class _StoredError(msgspec.Struct, frozen=True):
    type: str
    message: str
    traceback: str = ""
    expires_us: str | None = None
    """Of a job that has expired: its message is made of this."""


record_of: Callable[[bytes], JobRecord] = msgspec.msgpack.Decoder(JobRecord).decode
_stored_error: Callable[[str], _StoredError] = msgspec.json.Decoder(_StoredError).decode
_decode = msgspec.json.Decoder().decode


_state: Callable[[bytes], _State] = msgspec.msgpack.Decoder(_State).decode


def state_of(packed: bytes) -> JobState:
    """The state in a record, without the rest."""
    return _state(packed).state


def moment(us: int) -> datetime:
    """Microseconds since the epoch as an aware datetime. A server counts times after 2255 less exactly.

    >>> moment(1_500_000).isoformat()
    '1970-01-01T00:00:01.500000+00:00'
    """
    return _EPOCH + timedelta(0, 0, min(max(us, EARLIEST_US), LATEST_US))


def moment_or_none(us: int | None) -> datetime | None:
    return None if us is None else moment(us)


def _seconds(us: int | None) -> float | None:
    return None if us is None else us / 1e6


def error_of(stored: str | None) -> ErrorInfo | None:
    if stored is None:
        return None
    error = _stored_error(stored)
    if error.expires_us is not None:
        return expiry_error(int(error.expires_us))
    return ErrorInfo(type=error.type, message=error.message, traceback=error.traceback)


def job_of(record: JobRecord, extra: Extra = NO_EXTRA, *, created: bool = True) -> Job:
    """The job as people see it."""
    payload = _decode(record.payload or extra.payload or "{}")
    result = record.result if record.result is not None else extra.result
    return Job(
        id=record.id,
        name=record.name,
        queue=record.queue,
        state=record.state,
        priority=record.priority,
        payload=payload if isinstance(payload, dict) else {"": payload},
        attempt=record.attempt,
        starts=record.starts,
        max_retries=record.retries,
        run_at=moment(record.run),
        created_at=moment(record.made),
        started_at=moment_or_none(record.began),
        completed_at=moment_or_none(record.done),
        timeout=_seconds(record.timeout),
        idempotency_key=record.key,
        last_error=error_of(record.error),
        result=None if result is None else _decode(result),
        progress=None if record.progress is None else _decode(record.progress),
        batch_id=record.batch,
        retried_from=record.from_id,
        retried_as=record.again,
        blocked_reason=_why_blocked(record, extra),
        worker_pid=record.pid,
        cpu_s=_seconds(record.cpu),
        max_rss_bytes=record.rss,
        slot=moment_or_none(record.slot),
        expires_at=moment_or_none(record.expires),
        created=created,
    )


def _why_blocked(record: JobRecord, extra: Extra) -> str | None:
    if record.open:
        return reason_of_parents(len(record.open))
    if extra.is_paused:
        return reason_of_pause(record.queue)
    return None if record.blocked is None else refusal_text(record.name, record.blocked)


def claimed_job_of(record: JobRecord, payload: bytes = b"", *, expires_at_us: int | None = None) -> ClaimedJob:
    return ClaimedJob(
        id=record.id,
        starts=record.starts,
        attempt=record.attempt,
        name=record.name,
        queue=record.queue,
        priority=record.priority,
        run_at_us=record.run,
        max_retries=record.retries,
        timeout_us=record.timeout,
        idempotency_key=record.key,
        trace_context=record.trace,
        slot_us=record.slot,
        expires_at_us=expires_at_us,
        payload=payload,
    )


def claimed(record: JobRecord, extra: Extra) -> ClaimedJob:
    """A running job, as its supervisor runs it."""
    payload = (record.payload if record.payload is not None else extra.payload) or ""
    return claimed_job_of(record, payload.encode(), expires_at_us=record.expires)


def attempts_of(
    record: JobRecord, stored: Iterable[str], outputs: Mapping[tuple[int, str], str]
) -> list[Attempt]:
    """The history of a job: the attempts stored apart, and the one that the record itself is."""
    rows = [_decode(each) for each in stored]
    if record.whole:
        rows.append(
            [
                *(record.starts, record.attempt, Cause.COMPLETED, record.began, record.done, record.took),
                *(record.pid, None, None, None, record.cpu, record.rss),
            ]
        )
    return [_attempt(record, row, outputs) for row in rows]


def _attempt(record: JobRecord, row: list[Any], outputs: Mapping[tuple[int, str], str]) -> Attempt:
    row += [None] * (12 - len(row))  # one that expired
    starts, attempt, cause, began, done, took, pid, error, exit_status, signal, cpu, rss = row
    if error is not None:
        error = msgspec.convert(error, ErrorInfo)
    elif cause == Cause.EXPIRED:
        error = error_of(record.error)
    return Attempt(
        job_id=record.id,
        starts=starts,
        attempt=attempt,
        cause=Cause(cause),
        started_at=moment(began),
        finished_at=moment(done),
        duration_s=_seconds(took),
        worker_pid=pid,
        error=error,
        exit_status=exit_status,
        signal=signal,
        cpu_s=_seconds(cpu),
        max_rss_bytes=rss,
        stdout=outputs.get((starts, "stdout")),
        stderr=outputs.get((starts, "stderr")),
        log=outputs.get((starts, "log")),
    )


def letter_of(record: JobRecord, extra: Extra) -> DeadLetter:
    assert record.failed is not None
    return DeadLetter(
        id=record.id,
        job=job_of(record, extra),
        failed_at=moment(record.failed),
        replayed_at=moment_or_none(record.replayed),
        replayed_as=record.replayed_as,
    )


def failure_of(record: JobRecord, _: Extra) -> Failure:
    assert record.failed is not None
    error = error_of(record.error)
    return Failure(
        id=record.id,
        name=record.name,
        failed_at_us=record.failed,
        type="" if error is None else error.type,
        message="" if error is None else error.message,
    )


def member_of(record: JobRecord, extra: Extra) -> Member:
    payload = record.payload if record.payload is not None else extra.payload
    result = record.result if record.result is not None else extra.result
    return Member(
        record.id,
        record.state,
        (payload or "").encode(),
        None if result is None else result.encode(),
        record.again,
    )

"""Converts rows to values and back. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter, itemgetter
from typing import Any

import msgspec

from mpdispatch.clock import Instant
from mpdispatch.model import UNREADABLE, Attempt, Cause, ErrorInfo, Job, JobState, NewJob, PeerSupervisor
from mpdispatch.store.sql.columns import ATTEMPT_COLUMNS, JOB_COLUMNS, NEW, SUPERVISOR_COLUMNS
from mpdispatch.store.sql.mending import Column, faults_of, has_bad_text, mended

Row = Sequence[Any]

INLINE_BYTES = 1024
"""Larger payloads and results are stored in tables of their own."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CAUSES = frozenset(each.value for each in Cause)
_STATES: dict[object, JobState] = {each.value: each for each in JobState}
_LANES = {JobState.PENDING: 1, JobState.SCHEDULED: 2, JobState.RETRYING: 2}
encode_error: Callable[[ErrorInfo], bytes] = msgspec.json.Encoder().encode
_decode_error = msgspec.json.Decoder(ErrorInfo).decode
_NOT_JSON = (msgspec.DecodeError, UnicodeError, RecursionError, TypeError)
_DEEP = 250
"""JSON nested this deep is not shown. Enqueued values may be nested 200 deep."""

# The columns that show whether a supervisor lives.
_SIGNS_OF_LIFE = ("host", "machine_id", "boot_id", "pid", "pid_start", "pid_namespace")
_WIDTH, _STATE = len(JOB_COLUMNS), [column.name for column in JOB_COLUMNS].index("state")
_texts_of = itemgetter(*(at for at, column in enumerate(JOB_COLUMNS) if column.kind == "text"))
_new = attrgetter(*NEW)


def moment(us: int) -> datetime:
    """Microseconds since the epoch as an aware datetime.

    >>> moment(1_500_000).isoformat()
    '1970-01-01T00:00:01.500000+00:00'
    """
    return _EPOCH + timedelta(0, 0, us)  # by position: the keyword costs half as much again


def _moment_or_none(us: int | None) -> datetime | None:
    return None if us is None else moment(us)


def _seconds(us: int | None) -> float | None:
    return None if us is None else us / 1e6


def stored_json(data: bytes) -> str | bytes:
    """JSON as TEXT, so SQLite's json functions and Datasette can read it; non-UTF-8 data stays a BLOB."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _json(stored: Any) -> Any:
    # A value changed by hand must not hide the job or the whole list.
    try:
        value = msgspec.json.decode(stored)
    except _NOT_JSON:
        return _no_json(stored)
    if len(stored) > 2 * _DEEP and _is_deep(value):
        return f"<nested too deeply: {len(stored)} bytes>"  # encoding it again may run out of stack
    return value


def _json_or_none(stored: Any) -> Any:
    return None if stored is None else _json(stored)


def _no_json(stored: Any) -> str:
    if isinstance(stored, str | bytes):
        return f"<not JSON: {len(stored)} bytes>"
    return f"<not JSON: {stored!r}>"


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEP):
        inner = [
            each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)
        ]
        level = [each for some in inner for each in some if isinstance(each, dict | list)]
        if not level:
            return False
    return True


def error_of(stored: Any) -> ErrorInfo | None:
    if stored is None:
        return None
    try:
        return _decode_error(stored)
    except _NOT_JSON:
        return ErrorInfo(type="UnreadableError", message=_no_json(stored))


def lane_of(state: JobState) -> int | None:
    """The value of the column `lane` (see schema.sql) for a job in this state that is not parked."""
    return _LANES.get(state)


def new_job_row(job: NewJob, payload: str | bytes | None, now_us: int) -> tuple[Any, ...]:
    """Parameters of `insert_job`."""
    run_at_us = job.due_us(now_us)
    state, lane = ("pending", 1) if run_at_us <= now_us else ("scheduled", 2)
    return (state, lane, run_at_us, now_us, job.expiry_us(now_us), *_new(job), payload)


def fresh_job(job: NewJob, job_id: int, row: Row) -> Job:
    """The Job that `insert_job` has just inserted with these parameters, without reading it back."""
    state, _, run_at_us, now_us, expires_at_us = row[:5]
    created_at, payload = moment(now_us), _json(job.payload)
    return Job(
        id=job_id,
        name=job.name,
        queue=job.queue,
        state=_STATES[state],
        priority=job.priority,
        payload=payload if isinstance(payload, dict) else _arguments(payload),
        max_retries=job.max_retries,
        run_at=created_at if run_at_us == now_us else moment(run_at_us),
        created_at=created_at,
        timeout=None if job.timeout_us is None else job.timeout_us / 1e6,
        idempotency_key=job.idempotency_key,
        batch_id=job.batch_id,
        retried_from=job.retried_from,
        slot=None if job.slot_us is None else moment(job.slot_us),
        expires_at=None if expires_at_us is None else moment(expires_at_us),
    )


def reason_of_pause(queue: str) -> str:
    """Why a due job of a paused queue is not claimed."""
    return f"queue {queue!r} is paused"


WAITING_FOR_PARENTS = "waiting for other jobs"
"""Why several jobs are not due that wait for others."""


def reason_of_parents(count: int) -> str:
    """Why a job that waits for others is not due."""
    return f"waiting for {count} {'job' if count == 1 else 'jobs'}"


def job_of(row: Row, *, created: bool = True) -> Job:
    """The Job of a row of the query `jobs`. An unreadable row gives its readable part, with an `UnreadableJob` error."""
    try:
        if not has_bad_text(_texts_of(row)):
            return _job(row, created)
    except (ValueError, OverflowError):
        pass  # no state, or no time
    return _unreadable_job(row, created)


def state_named(state: object) -> JobState:
    """The state of this name. An unknown name counts as `failed`, as such a job never runs."""
    try:
        return _STATES[state]  # a fifth of the time that JobState(state) takes
    except (KeyError, TypeError):  # anything may stand there
        return JobState.FAILED


def _unreadable_job(row: Row, created: bool) -> Job:
    faults = faults_of(JOB_COLUMNS, row)
    shown = mended(JOB_COLUMNS, row)
    state = state_named(shown[_STATE])
    if state != shown[_STATE]:
        faults.append(f"column state holds {shown[_STATE][:40]!r}, which is no state")
    shown[_STATE] = state.value
    job = _job(shown, created)
    if job.last_error is not None and job.last_error.type == UNREADABLE:
        return job  # it was ended for that, and its last error names the fault
    message = f"job {job.id}: {'; '.join(faults)}"
    if job.last_error is not None:
        message += f"; its last error was {job.last_error}"
    return msgspec.structs.replace(job, last_error=ErrorInfo(type=UNREADABLE, message=message))


def _arguments(payload: Any) -> dict[str, Any]:
    return payload if isinstance(payload, dict) else {"": payload}


def _progress(stored: Any) -> dict[str, Any] | None:
    progress = _json_or_none(stored)
    return progress if isinstance(progress, dict) else None


def _same(value: Any) -> Any:
    return value


def _decoders(
    columns: Sequence[Column], **special: Callable[[Any], Any]
) -> list[tuple[str, Callable[[Any], Any]]]:
    """The field and the decoder of each column."""
    of_kind: dict[str, Callable[[Any], Any]] = {
        "time": _moment_or_none,
        "duration": _seconds,
        "json": _json_or_none,
    }
    named = [(each.field or each.name.removesuffix("_us"), each.kind) for each in columns]
    return [(field, special.get(field) or of_kind.get(kind, _same)) for field, kind in named]


_JOB_DECODERS = _decoders(JOB_COLUMNS, state=JobState, progress=_progress)
_ATTEMPT_DECODERS = _decoders(ATTEMPT_COLUMNS, cause=Cause, error=error_of)


def _decoded(decoders: Sequence[tuple[str, Callable[[Any], Any]]], row: Row) -> dict[str, Any]:
    return {field: decode(value) for (field, decode), value in zip(decoders, row, strict=False)}


def _job(row: Row, created: bool) -> Job:
    payload, last_error, result, is_queue_paused, open_parents = row[_WIDTH:]
    fields = _decoded(_JOB_DECODERS, row)
    if fields["blocked_reason"] is None and is_queue_paused and fields["state"] is JobState.PENDING:
        fields["blocked_reason"] = reason_of_pause(fields["queue"])
    if open_parents is not None:
        fields["blocked_reason"] = reason_of_parents(open_parents)
    if fields["completed_at"] is not None:
        fields["expires_at"] = None  # the row of a completed job keeps it until upkeep clears it
    return Job(
        **fields,
        payload=_arguments(_json(payload)) if payload is not None else {},
        last_error=error_of(last_error),
        result=_json_or_none(result),
        created=created,
    )


def attempt_of(row: Row) -> Attempt:
    """The Attempt of a row of the query `attempts`. An unreadable row gives its readable part, with an error."""
    faults = faults_of(ATTEMPT_COLUMNS, row)
    if not faults and row[3] in _CAUSES:
        return Attempt(**_decoded(_ATTEMPT_DECODERS, row))
    shown = mended(ATTEMPT_COLUMNS, row)
    if shown[3] not in _CAUSES:
        faults.append(f"column cause holds {shown[3][:40]!r}, which is no cause")
        shown[3] = Cause.ERROR
    error = ErrorInfo(type="UnreadableAttempt", message="; ".join(faults))
    return Attempt(**{**_decoded(_ATTEMPT_DECODERS, shown), "error": error})


def supervisor_of(row: Row, now: Instant, this_boot: str) -> PeerSupervisor:
    """A supervisor from a row of the query `supervisors`; shown without a lease if the row is too damaged."""
    faults = faults_of(SUPERVISOR_COLUMNS, row)
    names = [column.name for column in SUPERVISOR_COLUMNS]
    shown = dict(zip(names, mended(SUPERVISOR_COLUMNS, row), strict=True))
    has_lease = all(shown[name] is row[names.index(name)] for name in _SIGNS_OF_LIFE)
    until_us, until_boot_us = shown.pop("lease_until_wall_us"), shown.pop("lease_until_boot_us")
    # In this boot use boottime, which jumps of the wall clock do not affect.
    left_us = until_boot_us - now.boot_us if shown["boot_id"] == this_boot else until_us - now.wall_us
    queues = shown.pop("queues")
    try:
        shown["queues"] = tuple(msgspec.json.decode(queues, type=list[str]))
    except _NOT_JSON:
        faults.append(f"column queues holds {queues[:40]!r}, no list of names")
        shown["queues"] = ()
    return PeerSupervisor(
        **shown,
        lease_left_us=left_us if has_lease else 0,
        renewed=until_boot_us,
        unreadable="; ".join(faults),
    )

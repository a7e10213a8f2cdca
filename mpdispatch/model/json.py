"""The JSON that command line and HTTP give and take, one form for both. Pure: values and plain objects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, NoReturn

import msgspec

from mpdispatch.errors import UsageError
from mpdispatch.model.batch import BatchInfo, Parent
from mpdispatch.model.job import Attempt, DeadLetter, Job
from mpdispatch.model.progress import progress_of, run_s
from mpdispatch.model.supervisors import SupervisorStatus

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST, _LATEST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


def time_to_json(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC with microseconds.

    >>> time_to_json(datetime(2026, 3, 1, 12, 30, tzinfo=UTC))
    '2026-03-01T12:30:00.000000Z'
    """
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def time_from_text(text: str) -> datetime:
    """The aware UTC datetime of an RFC 3339 time, which has an offset. Raises UsageError.

    >>> time_from_text("2026-05-01T10:00:00+02:00")
    datetime.datetime(2026, 5, 1, 8, 0, tzinfo=datetime.timezone.utc)
    """
    try:
        if not _RFC3339.fullmatch(text):
            raise ValueError
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"{text[:60]!r} is no RFC 3339 time such as 2026-05-01T08:00:00Z") from None


def json_from_text(text: str | bytes) -> Any:
    """The value of this JSON, read strictly: no NaN, and no key twice in an object. Raises UsageError."""

    import json  # a third of a MiB that no supervisor needs

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("an object has the same key twice")
        return found

    try:
        return json.loads(text, parse_constant=refuse, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno} " if error.doc.count("\n") else ""
        raise UsageError(f"no valid JSON: {error.msg} at {line}column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"no valid JSON: {error}") from error


def moment_of(us: int) -> datetime:
    """Microseconds since the epoch as an aware datetime; out of range, the earliest or the latest datetime."""
    try:
        return _EPOCH + timedelta(microseconds=us)
    except OverflowError:
        return _LATEST if us > 0 else _EARLIEST


def to_json(value: Any) -> Any:
    """Every field of a value of this room under its own name. What is JSON already stays as it is."""
    match value:
        case datetime():
            return time_to_json(value)
        case Enum():
            return value.value
        case tuple():
            return [to_json(each) for each in value]
        case msgspec.Struct():
            return {name: to_json(getattr(value, name)) for name in value.__struct_fields__}
        case _:
            return value


def shown_job_to_json(
    job: Job, attempts: Sequence[Attempt], parents: Sequence[Parent], dependents: int, now: datetime
) -> dict[str, Any]:
    """One job alone: its own keys, and what it has to do with others. `dependents`: how many jobs have it as a parent."""
    return {
        **job_to_json(job, now),
        "attempts": [to_json(each) for each in attempts],
        "parents": [{"id": each.id, "state": to_json(each.state)} for each in parents],
        "dependents": dependents,
    }


def job_to_json(job: Job, now: datetime) -> dict[str, Any]:
    """A job, with `duration_s` (of its last start, see `run_s`) and `eta_s` (of a running job that reports progress)."""
    progress = progress_of(job, now)
    eta_s = None if progress is None else progress.eta_s
    return {**to_json(job), "duration_s": _rounded(run_s(job, now)), "eta_s": _rounded(eta_s)}


def _rounded(seconds: float | None) -> float | None:
    """To the microsecond, as times are."""
    return None if seconds is None else round(seconds, 6)


_OF_THE_JOB = (
    "name",
    "queue",
    "priority",
    "payload",
    "attempt",
    "starts",
    "max_retries",
    "created_at",
    "started_at",
)


def dead_letter_to_json(letter: DeadLetter) -> dict[str, Any]:
    """The failed job under the keys of a job, and the dead letter's own. `id` and `job_id` are the same number."""
    job = to_json(letter.job)
    return {
        "id": letter.id,
        "job_id": letter.id,
        **{key: job[key] for key in _OF_THE_JOB},
        "failed_at": time_to_json(letter.failed_at),
        "duration_s": _rounded(run_s(letter.job, letter.failed_at)),
        "last_error": job["last_error"],
        "batch_id": job["batch_id"],
        "retried_from": job["retried_from"],
        "replayed_at": time_to_json(letter.replayed_at),
        "replayed_as": letter.replayed_as,
        "retried_as": job["retried_as"],
    }


def batch_to_json(batch: BatchInfo) -> dict[str, Any]:
    """A batch as it stands; `counts` by state, `callbacks` by event, each with `name` and `job_id`."""
    return {
        "id": batch.id,
        "name": batch.name,
        "created_at": time_to_json(batch.created_at),
        "ended_at": time_to_json(batch.ended_at),
        "total": batch.total,
        "counts": {state.value: count for state, count in batch.counts.items()},
        "progress": batch.progress,
        "eta_s": batch.eta_s,
        "callbacks": {event: each._asdict() for event, each in batch.callbacks.items()},
        "started_at": time_to_json(batch.started_at),
        "is_open": batch.is_open,
        "cancelled_at": time_to_json(batch.cancelled_at),
        "rate": batch.rate,
        "max_fails": batch.max_fails,
        "max_fail_share": batch.max_fail_share,
    }


def supervisor_to_json(status: SupervisorStatus) -> dict[str, Any]:
    """A supervisor with its workers; a worker's `state` is `running` or `idle`."""
    workers = [
        {"pid": each.pid, "state": "idle" if each.job_id is None else "running", **to_json(each)}
        for each in status.workers
    ]
    return {**to_json(status), "workers": workers}

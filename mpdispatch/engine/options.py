"""The options of a job, checked where they are given. Pure: no I/O, no clock.

An error names all faults of a call, each by its keyword.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

import msgspec

from mpdispatch.clock import SECOND_US
from mpdispatch.errors import ConfigError, Fault, UsageError
from mpdispatch.model import Job
from mpdispatch.policy.backoff import BackoffSpec
from mpdispatch.policy.durations import duration_of
from mpdispatch.policy.names import check_name, nearest, shown

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAX_KEY_CHARS = 200
_MAX_LIST = 1000


class EnqueueKeywords(TypedDict, total=False):
    """The keywords of `options(...)`. None is the same as not given, but for `timeout` (no timeout)."""

    queue: str | None
    priority: int | None
    """Higher first; a 64-bit integer."""
    run_at: datetime | None
    """Aware; excludes `delay`."""
    delay: float | timedelta | str | None
    """Seconds (or a timedelta, or `"5m"`) from the moment of the enqueue; excludes `run_at`."""
    max_retries: int | None
    timeout: float | timedelta | str | None
    """Seconds (or a timedelta, or `"5m"`) one start may take, more than zero."""
    idempotency_key: str | None
    """1 to 200 characters, unique per job name while the job's row exists."""
    connection: Any
    """An open connection to the store's file, whose transaction the enqueue joins."""


class JobKeywords(TypedDict, total=False):
    """The keywords of `@engine.job(...)`."""

    queue: str
    priority: int
    max_retries: int
    timeout: float | timedelta | str | None
    backoff: BackoffSpec | None


class EnqueueOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Checked options. None means the handler's own value; for `timeout_us` UNSET does, as None means no timeout."""

    queue: str | None = None
    priority: int | None = None
    run_at_us: int | None = None
    delay_us: int | None = None
    max_retries: int | None = None
    timeout_us: int | msgspec.UnsetType | None = msgspec.UNSET
    idempotency_key: str | None = None
    connection: Any = None

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> EnqueueOptions:
        """The options of a call.

        Raises:
            UsageError: names every keyword that is unknown or whose value is not allowed.
        """
        values, faults = _read(given, _ENQUEUE_READERS)
        if given.get("run_at") is not None and given.get("delay") is not None:
            faults.append("run_at and delay: give one of them, not both")
        if faults:
            raise UsageError("; ".join(faults))
        for old, new in (("run_at", "run_at_us"), ("delay", "delay_us"), ("timeout", "timeout_us")):
            if old in values:
                values[new] = values.pop(old)
        return cls(**values)


def checked_job_keywords(given: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of `@engine.job` as fields of a JobDefinition.

    Raises:
        UsageError: names every keyword that is unknown or whose value is not allowed.
    """
    values, faults = _read(given, _JOB_READERS)
    if faults:
        raise UsageError("; ".join(faults))
    if "timeout" in values:
        timeout_us = values.pop("timeout")
        values["timeout_s"] = None if timeout_us is None else timeout_us / SECOND_US
    return values


def checked_backoff(value: object) -> BackoffSpec | None:
    """The backoff of an engine, or None. Raises ConfigError."""
    try:
        return None if value is None else _backoff(value)
    except UsageError as error:
        raise ConfigError([Fault("backoff", str(error).removeprefix("backoff: "))]) from None


def checked_id(job_id: object) -> int:
    """The id of a job. Raises UsageError."""
    if isinstance(job_id, bool) or not isinstance(job_id, int):
        hint = "; pass job.id" if isinstance(job_id, Job) else ""
        raise UsageError(f"job_id: must be a whole number, not {shown(job_id)}{hint}")
    return job_id


def checked_limit(limit: object) -> int:
    """How many items of a list are wanted: 1 to 1000. Raises UsageError."""
    return _whole("limit", limit, 1, _MAX_LIST)


# ---------------------------------------------------------------- one reader per keyword

_Reader = Callable[[Any], Any]


def _read(given: Mapping[str, Any], readers: Mapping[str, _Reader]) -> tuple[dict[str, Any], list[str]]:
    values: dict[str, Any] = {}
    faults: list[str] = []
    for field, value in given.items():
        reader = readers.get(field)
        if reader is None:
            faults.append(_unknown(field, readers))
            continue
        if value is None and field != "timeout":
            continue
        try:
            values[field] = reader(value)
        except UsageError as error:
            faults.append(str(error))
    return values, faults


def _unknown(field: str, known: Iterable[str]) -> str:
    near = nearest(field, known)
    hint = f"did you mean {near}?" if near else f"there are {', '.join(known)}"
    return f"{field}: no such option; {hint} (a handler's own arguments go into enqueue)"


def _whole(field: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UsageError(f"{field}: must be a whole number from {low:,} to {high:,}, not {shown(value)}")
    return int(value)


def _queue(value: object) -> str:
    return check_name("queue", value)


def _priority(value: object) -> int:
    return _whole("priority", value, -(1 << 63), (1 << 63) - 1)


def _max_retries(value: object) -> int:
    return _whole("max_retries", value, 0, 1_000_000)


def _timeout(value: object) -> int | None:
    if value is None:
        return None
    timeout_us = round(duration_of("timeout", value) * SECOND_US)
    if timeout_us < 1:
        raise UsageError(f"timeout: must be more than zero seconds (None: no timeout), not {shown(value)}")
    return timeout_us


def _delay(value: object) -> int:
    return round(duration_of("delay", value) * SECOND_US)


def _run_at(value: object) -> int:
    if not isinstance(value, datetime):
        raise UsageError(f"run_at: must be an aware datetime, not {shown(value)}")
    if value.utcoffset() is None:
        raise UsageError(
            f"run_at: {value!r} has no time zone, so it names no moment; "
            "use datetime.now(UTC) + timedelta(...), or .astimezone() for local time"
        )
    return (value - _EPOCH) // _MICROSECOND


def _idempotency_key(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_KEY_CHARS:
        raise UsageError(
            f"idempotency_key: must be text of 1 to {_MAX_KEY_CHARS} characters, not {shown(value)}"
        )
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise UsageError(f"idempotency_key: must be valid text without NUL, not {shown(value)}")
    return value


def _backoff(value: object) -> BackoffSpec:
    if not isinstance(value, BackoffSpec):
        raise UsageError(
            f"backoff: must be backoff.Constant, Linear, Exponential or ExponentialJitter, not {shown(value)}"
        )
    return value


_ENQUEUE_READERS: dict[str, _Reader] = {
    "queue": _queue,
    "priority": _priority,
    "run_at": _run_at,
    "delay": _delay,
    "max_retries": _max_retries,
    "timeout": _timeout,
    "idempotency_key": _idempotency_key,
    "connection": lambda value: value,
}
_JOB_READERS: dict[str, _Reader] = {
    "queue": _queue,
    "priority": _priority,
    "max_retries": _max_retries,
    "timeout": _timeout,
    "backoff": _backoff,
}

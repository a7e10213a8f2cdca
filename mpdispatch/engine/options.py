"""The options of a job: their meanings, and the checks of given values. No I/O.

An error names all faults of a call, each by its keyword.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from inspect import cleandoc
from typing import Annotated, Any, TypeAlias, TypedDict, TypeVar, get_args, get_type_hints

import msgspec

from mpdispatch.clock import SECOND_US, SystemClock
from mpdispatch.engine import parents
from mpdispatch.errors import ConfigError, Fault, UsageError
from mpdispatch.model import Job, JobState, OnParentFailure
from mpdispatch.model.json import time_from_text
from mpdispatch.policy.backoff import BackoffSpec
from mpdispatch.policy.durations import duration_of, parse_duration
from mpdispatch.policy.names import check_name, nearest, shown

F = TypeVar("F", bound=Callable[..., Any])

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAX_KEY_CHARS = 200
_MAX_LIST = 1000


_PRIORITY = "jobs with a higher number run first, within their queue (a 64-bit integer)"
_EXPIRES = "when it is cancelled unless it has started: this long after its enqueue (seconds, or 30s, 5m, 2h)"
_MAX_RETRIES = "how many times to retry after a failure; 0: never"
_Timeout: TypeAlias = Annotated[
    float | timedelta | str | None,
    "the longest that one attempt may take (seconds, or 30s, 5m, 2h); None: no limit",
]


class JobKeywords(TypedDict, total=False):
    """The keywords of `@engine.job(...)`, each with what it means."""

    queue: Annotated[
        str, "the queue in which its jobs wait; a supervisor claims only from the queues that it polls"
    ]
    priority: Annotated[int, _PRIORITY]
    max_retries: Annotated[int, _MAX_RETRIES]
    timeout: _Timeout
    expires: Annotated[float | timedelta | str | None, f"{_EXPIRES}; None: never"]
    backoff: Annotated[
        BackoffSpec | None,
        "how long to wait before each retry (see `mpdispatch.backoff`); None: as set for the engine",
    ]


class EnqueueKeywords(TypedDict, total=False):
    """The keywords of `options(...)`, each with what it means.

    None is the same as not given, but for `timeout` (no timeout) and `expires` (never).
    """

    queue: Annotated[str | None, "the queue in which the job waits"]
    priority: Annotated[int | None, _PRIORITY]
    run_at: Annotated[datetime | None, "the earliest time to run, with a time zone; not together with delay"]
    delay: Annotated[
        float | timedelta | str | None, "how long to wait before it may run (seconds, or 30s, 5m, 2h)"
    ]
    max_retries: Annotated[int | None, _MAX_RETRIES]
    timeout: _Timeout
    expires: Annotated[
        float | timedelta | str | datetime | None, f"{_EXPIRES}, or at a time with a time zone; None: never"
    ]
    idempotency_key: Annotated[
        str | None,
        "if the store has a job of this name with this key, return that job and make no new one (1 to 200 characters)",
    ]
    after: Annotated[
        parents.After | None,
        "the jobs that must have ended before it may run, its parents: a Job, an id, a Batch, or a list of these. They are"
        " in the store already, so jobs never wait for each other in a circle",
    ]
    on_parent_failure: Annotated[
        OnParentFailure | None,
        "what it does when one of them fails or is cancelled: cancel (it is cancelled as well; without this option), run"
        " (it counts as done), wait (until somebody has retried it and it completes)",
    ]
    connection: Annotated[
        Any,
        "what the app is connected to the store's database by: the driver's connection, a Connection or Session of"
        " SQLAlchemy, a connection of Django. The job is stored in its transaction, and exists once that is committed",
    ]


def meanings(keywords: type) -> dict[str, str]:
    """What each of these keywords means."""
    hints = get_type_hints(keywords, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items()}


def documented(keywords: type) -> Callable[[F], F]:
    """A decorator that adds to a docstring what each of these keywords means."""

    def document(function: F) -> F:
        lines = [f"    {name}: {text}" for name, text in meanings(keywords).items()]
        function.__doc__ = "\n".join([cleandoc(function.__doc__ or ""), "", "Options:", *lines])
        return function

    return document


class Expiry(msgspec.Struct, frozen=True):
    """When a job expires: a duration, or a wall time. One of them is None."""

    after_us: int | None = None
    at_us: int | None = None


class EnqueueOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Checked options. None means the handler's own value; for `timeout_us` and `expires` UNSET does: None means none."""

    queue: str | None = None
    priority: int | None = None
    run_at_us: int | None = None
    delay_us: int | None = None
    max_retries: int | None = None
    timeout_us: int | msgspec.UnsetType | None = msgspec.UNSET
    expires: Expiry | msgspec.UnsetType | None = msgspec.UNSET
    idempotency_key: str | None = None
    after: parents.Parents | None = None
    on_parent_failure: OnParentFailure | None = None
    connection: Any = None

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> EnqueueOptions:
        """The options of a call.

        Raises UsageError: names every keyword that is unknown or whose value is not allowed.
        """
        faults = list[str]()
        if given.get("run_at") is not None and given.get("delay") is not None:
            faults.append("run_at and delay: give one of them, not both")
        if given.get("on_parent_failure") is not None and "after" not in given:
            faults.append("on_parent_failure: only together with after, which names the parents")
        values = _read(given, EnqueueKeywords.__annotations__, faults)
        return cls(**{_FIELDS.get(name, name): value for name, value in values.items()})


PLAIN = EnqueueOptions()
"""No option given."""


def checked_job_keywords(given: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of `@engine.job` as fields of a JobDefinition.

    Raises UsageError: names every keyword that is unknown or whose value is not allowed.
    """
    values = _read(given, JobKeywords.__annotations__)
    if "timeout" in values:
        timeout_us = values.pop("timeout")
        values["timeout_s"] = None if timeout_us is None else timeout_us / SECOND_US
    if "expires" in values:
        expiry = values.pop("expires")
        if expiry is not None and expiry.after_us is None:
            raise UsageError(f"expires: of a handler it must be a duration, not the time {given['expires']}")
        values["expires_s"] = None if expiry is None else expiry.after_us / SECOND_US
    return values


def expires_from_text(value: object) -> float | datetime:
    """The value of `expires` in a command line or in JSON: a duration, or an RFC 3339 time. Raises UsageError.

    >>> expires_from_text("5m"), expires_from_text("2026-05-01T10:00:00+02:00").hour
    (300.0, 8)
    """
    if isinstance(value, str) and value[:4].isdecimal() and "-" in value:
        return time_from_text(value)
    return parse_duration(value)


def checked_backoff(value: object) -> BackoffSpec | None:
    """The backoff of an engine, or None. Raises ConfigError."""
    try:
        return None if value is None else _backoff(value)
    except UsageError as error:
        raise ConfigError([Fault("backoff", str(error).removeprefix("backoff: "))]) from None


def checked_id(job_id: object, field: str = "job_id") -> int:
    """The id of a job or of a batch. Raises UsageError."""
    if isinstance(job_id, bool) or not isinstance(job_id, int):
        hint = "; pass job.id" if isinstance(job_id, Job) else ""
        raise UsageError(f"{field}: must be a whole number, not {shown(job_id)}{hint}")
    return job_id


def checked_state(state: object) -> JobState | None:
    """The state of this name; None stays None. Raises UsageError."""
    try:
        return None if state is None else JobState(state)  # type: ignore[arg-type]  # a wrong type is reported
    except ValueError:
        states = ", ".join(each.value for each in JobState)
        raise UsageError(f"state: must be one of {states}, not {shown(state)}") from None


def checked_limit(limit: object, field: str = "limit") -> int:
    """How many items of a list are wanted: 1 to 1000. Raises UsageError."""
    return _whole(field, limit, 1, _MAX_LIST)


def so_long_ago_us(older_than: object) -> int:
    """The moment so long ago. Raises UsageError, which names `older_than`."""
    return SystemClock().now().wall_us - round(duration_of("older_than", older_than) * SECOND_US)


# ---------------------------------------------------------------- one reader per keyword

_Reader = Callable[[Any], Any]


def _read(given: Mapping[str, Any], known: Iterable[str], more: Sequence[str] = ()) -> dict[str, Any]:
    """The values that are given. Raises UsageError, which names all faults and then `more`."""
    values: dict[str, Any] = {}
    faults: list[str] = []
    for field, value in given.items():
        if field not in known:
            faults.append(_unknown(field, known))
        elif value is not None or field in _WITH_NONE:
            try:
                values[field] = _READERS[field](value)
            except UsageError as error:
                faults.append(str(error))
    if faults or more:
        raise UsageError("; ".join([*faults, *more]))
    return values


def _unknown(field: str, known: Iterable[str]) -> str:
    near = nearest(field, known)
    hint = f"did you mean {near}?" if near else f"there are {', '.join(known)}"
    return f"{field}: no such option; {hint} (a handler's own arguments go into enqueue)"


def _whole(field: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UsageError(f"{field}: must be a whole number from {low:,} to {high:,}, not {shown(value)}")
    return int(value)


def _timeout(value: object) -> int | None:
    if value is None:
        return None
    timeout_us = round(duration_of("timeout", value) * SECOND_US)
    if timeout_us < 1:
        raise UsageError(f"timeout: must be more than zero seconds (None: no timeout), not {shown(value)}")
    return timeout_us


def _expires(value: object) -> Expiry | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return Expiry(at_us=_moment("expires", value))
    after_us = round(duration_of("expires", value) * SECOND_US)
    if after_us < 1:
        raise UsageError(f"expires: must be more than zero seconds (None: never), not {shown(value)}")
    return Expiry(after_us=after_us)


def _run_at(value: object) -> int:
    if not isinstance(value, datetime):
        raise UsageError(f"run_at: must be an aware datetime, not {shown(value)}")
    return _moment("run_at", value)


def _moment(field: str, value: datetime) -> int:
    """Its wall time in µs. Raises UsageError: it has no time zone."""
    if value.utcoffset() is None:
        raise UsageError(
            f"{field}: {value!r} has no time zone, so it names no moment; "
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


def _on_parent_failure(value: object) -> object:
    if value not in get_args(OnParentFailure):
        raise UsageError(
            f"on_parent_failure: must be one of {', '.join(get_args(OnParentFailure))}, not {shown(value)}"
        )
    return value


def _backoff(value: object) -> BackoffSpec:
    if not isinstance(value, BackoffSpec):
        raise UsageError(
            f"backoff: must be backoff.Constant, Linear, Exponential or ExponentialJitter, not {shown(value)}"
        )
    return value


_READERS: dict[str, _Reader] = {
    "queue": lambda value: check_name("queue", value),
    "priority": lambda value: _whole("priority", value, -(1 << 63), (1 << 63) - 1),
    "run_at": _run_at,
    "delay": lambda value: round(duration_of("delay", value) * SECOND_US),
    "max_retries": lambda value: _whole("max_retries", value, 0, 1_000_000),
    "timeout": _timeout,
    "expires": _expires,
    "idempotency_key": _idempotency_key,
    "after": parents.read,
    "on_parent_failure": _on_parent_failure,
    "connection": lambda value: value,
    "backoff": _backoff,
}
_WITH_NONE = ("timeout", "expires")
"""Keywords for which None is a value."""
_FIELDS = {"run_at": "run_at_us", "delay": "delay_us", "timeout": "timeout_us"}
"""The fields of EnqueueOptions that have other names than their keywords."""

"""The new job that options and defaults make. No I/O; reads the clock for a job that expires."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from mpdispatch.clock import SECOND_US, SystemClock
from mpdispatch.engine.options import PLAIN, EnqueueOptions, Expiry
from mpdispatch.errors import UsageError
from mpdispatch.model import NewJob
from mpdispatch.model.json import moment_of, time_to_json

if TYPE_CHECKING:  # it imports much that a job without a handler does not need
    from mpdispatch.handlers.registry import JobDefinition


class PlainDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """The defaults of a job whose handler nobody knows here."""

    name: str
    queue: str = "default"
    priority: int = 0
    max_retries: int = 3
    timeout_s: float | None = None
    expires_s: float | None = None


_GIVEN = [
    field
    for field in EnqueueOptions.__struct_fields__
    if field in NewJob.__struct_fields__ and field not in ("timeout_us", "after")
]
"""Options that a new job takes as they are."""


def _given(options: EnqueueOptions) -> dict[str, Any]:
    given = {field: value for field in _GIVEN if (value := getattr(options, field)) is not None}
    if options.after is not None:
        given |= {"after": options.after.ids, "parents_created_us": options.after.created_us}
    return given


def new_job(
    defaults: JobDefinition | PlainDefaults,
    options: EnqueueOptions,
    payload: bytes,
    default_timeout_s: float | None = None,
) -> NewJob:
    """The job with this payload: what the options say, else its own defaults, else `default_timeout_s`.

    Raises UsageError: it would expire before it is due.
    """
    timeout_us = options.timeout_us
    if isinstance(timeout_us, msgspec.UnsetType):
        timeout_us = None if defaults.timeout_s is None else round(defaults.timeout_s * SECOND_US)
    if timeout_us is None and default_timeout_s is not None:
        timeout_us = round(default_timeout_s * SECOND_US)
    fields: dict[str, Any] = {
        "queue": defaults.queue,
        "priority": defaults.priority,
        "max_retries": defaults.max_retries,
    }
    if options is not PLAIN:
        fields |= _given(options)
    if defaults.expires_s is None and not options.expires:  # None, or not given
        return NewJob(name=defaults.name, payload=payload, timeout_us=timeout_us, **fields)
    expiry = options.expires
    if isinstance(expiry, msgspec.UnsetType):
        expiry = Expiry(after_us=round((defaults.expires_s or 0) * SECOND_US))
    if expiry is not None:
        fields |= {"expires_us": expiry.after_us, "expires_at_us": expiry.at_us}
    job = NewJob(name=defaults.name, payload=payload, timeout_us=timeout_us, **fields)
    _refuse_expired(job)
    return job


def _refuse_expired(job: NewJob) -> None:
    now_us = SystemClock().now().wall_us
    if (expires_at_us := job.expiry_us(now_us)) is None:
        return
    if expires_at_us <= now_us:
        raise UsageError(f"expires: {_shown(expires_at_us)} is over")
    if expires_at_us <= (due_us := job.due_us(now_us)):
        raise UsageError(
            f"expires: the job would expire at {_shown(expires_at_us)}, and it is due at {_shown(due_us)}; give a later"
            " time, or None"
        )


def _shown(us: int) -> str | None:
    return time_to_json(moment_of(us))

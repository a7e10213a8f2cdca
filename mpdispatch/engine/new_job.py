"""The new job that options and defaults make. No I/O; reads the clock for a job that expires."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from mpdispatch.clock import SECOND_US, SystemClock
from mpdispatch.engine.options import PLAIN, EnqueueOptions, Expiry
from mpdispatch.errors import UsageError
from mpdispatch.model import NewJob
from mpdispatch.model.json import moment_of, time_to_json

_GIVEN = [
    field
    for field in EnqueueOptions.__struct_fields__
    if field in NewJob.__struct_fields__ and field not in ("timeout_us", "after")
]
"""Options that a new job takes as they are."""


def _given(options: EnqueueOptions) -> dict[str, Any]:
    given = {field: value for field in _GIVEN if (value := getattr(options, field)) is not None}
    if not isinstance(options.expires, msgspec.UnsetType):
        expiry = options.expires or Expiry()
        given |= {"expires_us": expiry.after_us, "expires_at_us": expiry.at_us}
    if options.after is not None:
        given |= {"after": options.after.ids, "parents_created_us": options.after.created_us}
    return given


def new_job(
    plain: NewJob,
    options: EnqueueOptions,
    payload: bytes,
    default_timeout_s: float | None = None,
) -> NewJob:
    """The job with this payload: what the options say, else as `plain`, which an enqueue without options makes.

    `default_timeout_s` counts if neither has a timeout. Raises UsageError: it would expire before it is due.
    """
    # A copy costs a quarter of a new one, and every enqueue makes one.
    timeout_us = plain.timeout_us if options.timeout_us is msgspec.UNSET else options.timeout_us
    if timeout_us is None and default_timeout_s is not None:
        timeout_us = round(default_timeout_s * SECOND_US)
    if options is PLAIN:
        job = replace(plain, payload=payload, timeout_us=timeout_us)
    else:
        job = replace(plain, payload=payload, timeout_us=timeout_us, **_given(options))
    if job.expires_us is not None or job.expires_at_us is not None:
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

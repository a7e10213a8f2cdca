"""The arguments of `engine.batch`, checked before anything is stored. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpdispatch.engine.enqueueing import Enqueueable
from mpdispatch.errors import PayloadError, UnknownJobError, UsageError
from mpdispatch.model import NewBatch, NewJob
from mpdispatch.model.batch import BatchEvent
from mpdispatch.policy.names import check_name, shown

if TYPE_CHECKING:  # which imports this module
    from mpdispatch.engine.engine import Engine

_NO_OPTIONS = ("connection", "idempotency_key", "after")
"""Options that a callback cannot have. It needs no parents: it is enqueued once the batch has ended."""


def checked_batch(
    engine: Engine,
    name: str,
    on_success: Enqueueable | None,
    on_failure: Enqueueable | None,
    on_end: Enqueueable | None,
    max_fails: float | None,
) -> NewBatch:
    """The batch with these arguments. Raises UsageError, which names the argument and what is allowed."""
    check_name("name", name)
    most, share = _max_fails(max_fails)
    given: dict[BatchEvent, Enqueueable | None] = {
        "on_success": on_success,
        "on_failure": on_failure,
        "on_end": on_end,
    }
    callbacks = {event: _callback(engine, event, job) for event, job in given.items() if job is not None}
    return NewBatch(name=name, callbacks=callbacks, max_fails=most, max_fail_share=share)


def _max_fails(value: object) -> tuple[int | None, float | None]:
    """The same as a number of jobs, or as a share of all."""
    if value is None:
        return None, None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63:
        return value, None
    if isinstance(value, float) and 0 < value < 1:
        return None, value
    raise UsageError(
        "max_fails: must be a whole number of jobs from 0, or a share of all jobs as a float between 0 and 1, not"
        f" {shown(value)}"
    )


def _callback(engine: Engine, event: BatchEvent, job: Enqueueable) -> NewJob:
    """The job that is enqueued at this event, but for its payload."""
    try:
        definition, options = engine.target_of(event, job)
        taken = [field for field in _NO_OPTIONS if getattr(options, field) is not None]
        if taken:
            raise UsageError(f"{event}: a callback takes no option {' or '.join(taken)}")
        definition.signature.encode((), {"batch": 1}, max_bytes=1_000)
    except UnknownJobError as error:
        raise UsageError(f"{event}: {error}") from None
    except PayloadError as error:
        faults = "; ".join(map(str, error.faults))
        raise UsageError(
            f"{event}: handler {definition.name!r} must take the id of the batch, as `batch: int`, and no other argument"
            f" without a default: {faults}"
        ) from None
    return engine.new_job_as(definition, options, b"")

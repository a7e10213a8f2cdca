"""The options of a job that assertions can ask for, and how each is compared. Reads the store for parents."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from mpdispatch.engine import parents
from mpdispatch.errors import UsageError
from mpdispatch.model import Job, JobState
from mpdispatch.policy.durations import duration_of
from mpdispatch.policy.names import shown
from mpdispatch.store.contract import Store

TOLERANCE_S = 1.0
"""How far `delay` and `run_at` may be off."""


def equal(value: object, wanted: object) -> bool:
    try:
        return bool(value == wanted)
    except Exception:  # noqa: BLE001 - the user's __eq__ may raise anything; arrays have no single truth
        return False


class Option(msgspec.Struct, frozen=True):
    """Its value of a job, whether that is what is wanted, and a check of what is wanted, which raises UsageError."""

    of: Callable[[Job, Store], Any]
    is_met: Callable[[Any, Any], bool] = lambda value, wanted: equal(value, wanted)
    check: Callable[[Any], object] = lambda wanted: None


def delay_s(job: Job) -> float:
    """How long after its enqueue it is, or was last, due."""
    return (job.run_at - job.created_at).total_seconds()


def _check_moment(value: object) -> None:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise UsageError(f"run_at: must be an aware datetime, not {shown(value)}")


def _check_state(value: object) -> None:
    if value not in list(JobState):
        raise UsageError(f"state: must be one of {', '.join(JobState)}, not {shown(value)}")


def _ids(after: object) -> list[int]:
    """Of parents, in ascending order. Raises UsageError."""
    return sorted(parents.read(after).ids)


OPTIONS: dict[str, Option] = {
    "queue": Option(lambda job, _: job.queue),
    "priority": Option(lambda job, _: job.priority),
    "max_retries": Option(lambda job, _: job.max_retries),
    "timeout": Option(
        lambda job, _: job.timeout,
        lambda value, wanted: (
            value == wanted if None in (value, wanted) else value == duration_of("timeout", wanted)
        ),
        lambda wanted: None if wanted is None else duration_of("timeout", wanted),
    ),
    "idempotency_key": Option(lambda job, _: job.idempotency_key),
    "state": Option(lambda job, _: job.state, check=_check_state),
    "batch_id": Option(lambda job, _: job.batch_id),
    "after": Option(
        lambda job, store: [each.id for each in store.parents(job.id)],
        lambda value, wanted: value == _ids(wanted),
        lambda wanted: _ids(wanted),
    ),
    "run_at": Option(
        lambda job, _: job.run_at,
        lambda value, wanted: abs((value - wanted).total_seconds()) <= TOLERANCE_S,
        _check_moment,
    ),
    "delay": Option(
        lambda job, _: delay_s(job),
        lambda value, wanted: abs(value - duration_of("delay", wanted)) <= TOLERANCE_S,
        lambda wanted: duration_of("delay", wanted),
    ),
}

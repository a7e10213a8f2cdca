"""The errors by which the Lua library refuses a call. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from mpdispatch.errors import (
    BatchClosedError,
    BatchNotFoundError,
    CronExistsError,
    CronNotFoundError,
    DeadLetterNotFoundError,
    InvalidStateError,
    JobNotFoundError,
    LeaseLostError,
    UnknownParentError,
)


def _invalid_state(job_id: int, state: str, *awaited: int) -> InvalidStateError:
    if not awaited:
        return InvalidStateError(job_id, state, "only a job that has not ended can be cancelled")
    first, count = awaited
    if not count:
        return InvalidStateError(
            job_id, state, "only a scheduled, retrying, failed or cancelled job can be retried"
        )
    more = f" and {count - 1:,} more" if count > 1 else ""
    return InvalidStateError(job_id, state, f"it waits for job {first}{more}, and is due once that has ended")


_ERRORS: dict[str, Callable[[Any], Exception]] = {
    "job_not_found": JobNotFoundError,
    "letter_not_found": DeadLetterNotFoundError,
    "batch_not_found": BatchNotFoundError,
    "batch_closed": lambda about: BatchClosedError(about[0], is_cancelled=about[1]),
    "unknown_parents": lambda about: UnknownParentError(sorted(about[0]), are_elsewhere=about[1]),
    "invalid_state": lambda about: _invalid_state(*about),
    "lease_lost": LeaseLostError,
    "cron_not_found": CronNotFoundError,
    "call_is_past": lambda number: RuntimeError(f"call {number} was sent again after a later one"),
    "cron_exists": lambda about: CronExistsError(*about),
}


def raise_refusal(name: str, about: Any) -> NoReturn:
    """Raise the error of this name, which is about that."""
    raise _ERRORS[name](about)

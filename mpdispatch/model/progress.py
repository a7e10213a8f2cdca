"""How far a job is, how long it runs, and when it may be done. Pure: no I/O, no clock."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, NamedTuple

from mpdispatch.model.job import Job, JobState


class JobProgress(NamedTuple):
    """What a handler last reported with `progress(done, total, message)`, and what follows from it."""

    done: float
    total: float | None
    message: str | None
    share: float | None
    """From 0 to 1; None: its total is unknown."""
    eta_s: float | None
    """Seconds until it may be done; None: unknown."""


def progress_of(job: Job, now: datetime) -> JobProgress | None:
    """How far a job is; None if it reported nothing.

    The ETA is that of a running job which goes on as it went since its start: a handler that does nothing more has an ETA
    that grows. Once `done` has reached `total`, or passed it, all of it is done. Numbers that another program wrote into
    the row, and that are none, count as not reported.
    """
    reported = job.progress or {}
    done, total, message = (
        _amount(reported.get("done")),
        _amount(reported.get("total")),
        reported.get("message"),
    )
    if done is None:
        return None
    elapsed_s = run_s(job, now) if job.state is JobState.RUNNING else None
    return JobProgress(
        done=done,
        total=total,
        message=message if isinstance(message, str) and message else None,
        share=None if total is None else _share(done, total),
        eta_s=None if total is None or elapsed_s is None else eta_s(done, total, elapsed_s),
    )


def eta_s(done: float, total: float, elapsed_s: float) -> float | None:
    """Seconds until `total` is done, if `done` of it took `elapsed_s`. None: nobody knows, as nothing is done yet.

    >>> eta_s(25, 100, 10), eta_s(0, 100, 10), eta_s(7, 5, 10)
    (30.0, None, 0.0)
    """
    if done >= total:
        return 0.0
    if done <= 0 or elapsed_s <= 0:
        return None
    left_s = (total - done) / done * elapsed_s
    return left_s if math.isfinite(left_s) else None


def run_s(job: Job, now: datetime) -> float | None:
    """Seconds since the last start of a running job, or between the last start and the end of one that has ended.

    None: it was never started, or waits for another start, or was cancelled while it waited.
    """
    match job.state:
        case JobState.RUNNING:
            until: datetime | None = now
        case JobState.COMPLETED | JobState.FAILED:
            until = job.completed_at
        case JobState.CANCELLED if job.started_at is not None and job.run_at <= job.started_at:
            until = job.completed_at  # a job that was put off after its last start has a later run_at
        case _:
            return None
    if job.started_at is None or until is None:
        return None
    return max(0.0, (until - job.started_at).total_seconds())  # a clock may be set back


def _share(done: float, total: float) -> float:
    return 1.0 if done >= total else done / total


def _amount(number: Any) -> float | None:
    """A number of zero or more, or None."""
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    try:
        return number if 0 <= number < math.inf and math.isfinite(float(number)) else None
    except OverflowError:
        return None  # an integer of 400 digits

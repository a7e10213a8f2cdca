"""How a batch stands, as text for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from mpdispatch.cli.output import time_text
from mpdispatch.model import BatchInfo, JobState
from mpdispatch.policy.durations import duration_text


def share_text(batch: BatchInfo) -> str:
    """How much of it has ended.

    All of it only when all has: 9,999 of 10,000 are 99 %.
    """
    return f"{int(batch.progress * 100)} %"


def counts_text(batch: BatchInfo) -> str:
    """Its members by state, without the states that none is in."""
    return ", ".join(f"{count:,} {state}" for state, count in batch.counts.items() if count) or "no jobs"


def rate_text(batch: BatchInfo) -> str:
    """Members ended per second, to three digits; per minute or per hour where that is a better number."""
    if (rate := batch.rate) is None:
        return ""
    for unit, seconds in (("s", 1), ("min", 60), ("h", 3600)):
        if rate * seconds >= 1 or unit == "h":
            return f"{rate * seconds:,.{0 if rate * seconds >= 99.5 else 1}f}/{unit}"
    raise AssertionError


def eta_text(batch: BatchInfo) -> str:
    """The time that is left; empty if it has ended, or if it is unknown."""
    return "" if batch.ended_at is not None or batch.eta_s is None else duration_text(batch.eta_s)


def standing(batch: BatchInfo) -> str:
    """In a word, for a line."""
    if batch.ended_at is not None:
        return "ended" if batch.cancelled_at is None else "ended, cancelled"
    if batch.cancelled_at is not None:
        return "cancelled, not ended"
    return "open: it takes more jobs until somebody closes it" if batch.is_open else "not ended"


def facts(batch: BatchInfo) -> Iterable[tuple[str, str]]:
    """The lines about one batch, each with its key."""
    done = f"{share_text(batch)} ({batch.done:,} of {batch.total:,})"
    rate, eta = rate_text(batch), eta_text(batch)
    yield "id", str(batch.id)
    yield "name", batch.name
    yield "state", standing(batch)
    yield "progress", done + (f", {rate}" if rate else "") + (f", {eta} left" if eta else "")
    yield "jobs", counts_text(batch)
    for key, moment in (
        ("created", batch.created_at),
        ("started", batch.started_at),
        ("ended", batch.ended_at),
        ("cancelled", batch.cancelled_at),
    ):
        if moment is not None:
            yield key, time_text(moment)
    if batch.max_fails is not None:
        yield "max_fails", f"{batch.max_fails:,}"
    if batch.max_fail_share is not None:
        yield "max_fails", f"{batch.max_fail_share:.4g} of all"
    for event, callback in batch.callbacks.items():
        job = "" if callback.job_id is None else f", as job {callback.job_id}"
        yield event, f"{callback.name}{job}"


def has_losses(batch: BatchInfo) -> bool:
    """Whether a member failed or was cancelled."""
    return bool(batch.counts[JobState.FAILED] or batch.counts[JobState.CANCELLED])

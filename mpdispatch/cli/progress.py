"""How far a job is, as text for people. Pure."""

from __future__ import annotations

from mpdispatch.model.progress import JobProgress
from mpdispatch.policy.durations import duration_text


def bar(share: float, width: int = 20, *, encoding: str = "utf-8") -> str:
    """A bar of `width` characters, `share` of which are full.

    >>> bar(0.3, 10), bar(0.999, 10, encoding="ascii")
    ('███░░░░░░░', '#########-')
    """
    full, empty = ("█", "░") if encoding.lower().replace("-", "") == "utf8" else ("#", "-")
    count = int(share * width)  # full only once all is done
    return full * count + empty * (width - count)


def progress_text(progress: JobProgress) -> str:
    """
    >>> progress_text(JobProgress(3, 7, "page 3", 3 / 7, 12.4))
    '42 % (3/7), 12s left: page 3'
    >>> progress_text(JobProgress(3, None, None, None, None))
    '3 done'
    """
    done = f"{_number(progress.done)} done"
    if progress.share is not None and progress.total is not None:
        done = f"{int(progress.share * 100)} % ({_number(progress.done)}/{_number(progress.total)})"
    left = f", {duration_text(progress.eta_s)} left" if progress.eta_s else ""
    return f"{done}{left}" + (f": {progress.message}" if progress.message else "")


def _number(amount: float) -> str:
    return f"{amount:.10g}" if isinstance(amount, float) else str(amount)

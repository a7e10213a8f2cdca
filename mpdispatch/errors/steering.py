"""What a handler raises to steer its job, and what the supervisor raises inside a handler. No errors of ours."""

from __future__ import annotations

from datetime import timedelta

from mpdispatch.clock import seconds_of_text


def _seconds(value: float | timedelta | str | None) -> float | None:
    if value is None:
        return None
    seconds: float | None
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    else:
        seconds = seconds_of_text(value) if isinstance(value, str) else float(value)
    if seconds is None or not 0 <= seconds < float("inf"):
        raise ValueError(
            "delay must be zero or more seconds, a timedelta or a duration such as '250ms', '30s', '5m' or '2h', not"
            f" {value!r:.60}"
        )
    return seconds


class Retry(Exception):
    """Raise in a handler: this attempt failed, try again after `delay` (default: the job's backoff).

    A delay is seconds, a timedelta, or text such as `"5m"`. Raises ValueError: it is none.
    """

    def __init__(self, reason: str = "", *, delay: float | timedelta | str | None = None) -> None:
        self.reason, self.delay_s = reason, _seconds(delay)
        super().__init__(reason or "the handler asked for a retry")


class Snooze(Exception):
    """Raise in a handler: run this job again after `delay` (seconds, a timedelta, `"5m"`); no attempt is spent."""

    def __init__(self, delay: float | timedelta | str) -> None:
        self.delay_s = _seconds(delay) or 0.0
        super().__init__(f"snoozed for {self.delay_s:g} s")


class Cancel(Exception):
    """Raise in a handler: this job ends as cancelled, with `reason`; it is not retried."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason or "the handler cancelled the job")


class JobInterrupt(BaseException):
    """Root of what the supervisor raises inside a running handler. Clean up and let it pass."""


class JobTimeout(JobInterrupt):
    """The job ran past its timeout. After `kill_grace` the process is killed."""


class JobCancelled(JobInterrupt):
    """The job was cancelled, or its supervisor is shutting down. After a grace the process is killed."""

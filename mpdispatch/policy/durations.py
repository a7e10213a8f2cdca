"""Durations as people write them, in float seconds. Pure: no I/O, no clock."""

from __future__ import annotations

import math
from datetime import timedelta

from mpdispatch.clock import seconds_of_text
from mpdispatch.errors import UsageError
from mpdispatch.policy.names import shown

MAX_DURATION_S = 100 * 365 * 86_400.0
"""A hundred years: added to any `now` it still is a date and fits 64 bits of microseconds."""


_TEXT = "a duration such as '250ms', '30s', '5m' or '2h'"


def as_seconds(value: object) -> float:
    """Float seconds of a number of seconds or a timedelta, zero or more.

    >>> as_seconds(timedelta(minutes=2))
    120.0

    Raises UsageError: it is neither, is negative, NaN or infinite, or is longer than a hundred years.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError:
            seconds = math.inf
    else:
        raise UsageError(f"must be seconds or a timedelta, not {shown(value)}")
    if not 0 <= seconds <= MAX_DURATION_S:
        raise UsageError(f"must be from 0 s to a hundred years, not {shown(value)}")
    return seconds


def parse_duration(value: object) -> float:
    """Float seconds of a number, a timedelta, or text: `"250ms"`, `"30s"`, `"5m"`, `"1h30m"`, `"7d"`, `"1.5"`.

    >>> parse_duration("1h30m")
    5400.0
    >>> parse_duration("250ms")
    0.25

    Raises UsageError: it is none of these, negative, NaN or infinite, or longer than a hundred years.
    """
    if isinstance(value, int | float | timedelta) and not isinstance(value, bool):
        return as_seconds(value)
    if not isinstance(value, str):
        raise UsageError(f"must be seconds, a timedelta or {_TEXT}, not {shown(value)}")
    seconds = seconds_of_text(value)
    if seconds is None:
        raise UsageError(f"must be {_TEXT}, not {shown(value)}")
    return as_seconds(seconds)


def duration_of(field: str, value: object) -> float:
    """As `parse_duration`; the error names the field."""
    try:
        return parse_duration(value)
    except UsageError as error:
        raise UsageError(f"{field}: {error}") from None


def duration_text(seconds: float) -> str:
    """A duration for people, to two or three digits; `parse_duration` reads it again.

    >>> [duration_text(each) for each in (0.0421, 3.25, 59.6, 200, 3900, 200_000)]
    ['42ms', '3.2s', '1m00s', '3m20s', '1h05m', '2d08h']
    """
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    if (whole_s := round(seconds)) < 60:
        return f"{whole_s}s"
    if whole_s < 3600:
        return f"{whole_s // 60}m{whole_s % 60:02}s"
    if (whole_m := round(seconds / 60)) < 1440:
        return f"{whole_m // 60}h{whole_m % 60:02}m"
    whole_h = round(seconds / 3600)
    return f"{whole_h // 24}d{whole_h % 24:02}h"

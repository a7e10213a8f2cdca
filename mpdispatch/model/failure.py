"""Failures by the many: without arguments and tracebacks, in groups, and what became of those run again. Values only."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Failure(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A dead letter, as far as a group of failures needs it."""

    id: int
    """Of its job."""
    name: str
    failed_at_us: int
    """Wall time."""
    type: str
    """Of its error; empty if none was kept."""
    message: str


class FailureGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Dead letters of one job name whose errors are alike. Times are aware UTC datetimes."""

    name: str
    type: str
    """The class of the error; empty if none was kept."""
    message: str
    """With `<n>`, `<id>`, `<path>` … in place of what differs."""
    count: int
    first_failed_at: datetime
    last_failed_at: datetime
    example_id: int
    """The one that failed last."""


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """What became of many jobs that were to run again."""

    count: int
    """How many run again. Those that somebody else was quicker to run again, cancel or purge do not count."""
    errors: dict[int, str]
    """By id of each that cannot run again, the reason."""

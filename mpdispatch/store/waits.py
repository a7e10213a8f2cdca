"""What a store says of jobs that wait, and is told of them. Values."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Rebase", "Wait", "WaitsSeen"]


class Wait(NamedTuple):
    """A job that its last start has put off: to be tried again, or snoozed. Wall times in µs."""

    job_id: int
    run_at_us: int
    put_off_us: int
    """When that start ended."""


class Rebase(NamedTuple):
    """Another due time for a waiting job. Wall times in µs."""

    job_id: int
    was_us: int
    run_at_us: int


class WaitsSeen(NamedTuple):
    """How far a look at waiting jobs has come."""

    place: int
    run_at_us: int
    job_id: int

"""Arguments and results of a store about jobs that were put off. Values."""

from __future__ import annotations

from typing import NamedTuple


class Wait(NamedTuple):
    """A job that waits for a retry or was snoozed. Wall times in µs."""

    job_id: int
    run_at_us: int
    put_off_us: int
    """When its last start ended."""


class Rebase(NamedTuple):
    """Another due time for a waiting job. Wall times in µs."""

    job_id: int
    was_us: int
    run_at_us: int


class WaitsSeen(NamedTuple):
    """Where to continue reading the waiting jobs."""

    place: int
    run_at_us: int
    job_id: int

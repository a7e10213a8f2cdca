"""Why a job is not claimed. Pure. A job that was refused is parked with its `policy.admission.refusing_app`."""

from __future__ import annotations

WAITING_FOR_PARENTS = "waiting for other jobs"
"""Why several jobs are not due that wait for others."""


def reason_of_pause(queue: str) -> str:
    """Why a due job of a paused queue is not claimed."""
    return f"queue {queue!r} is paused"


def reason_of_parents(count: int) -> str:
    """Why a job that waits for others is not due."""
    return f"waiting for {count} {'job' if count == 1 else 'jobs'}"

"""The jobs that the supervisor has assigned to a worker, of whatever kind it is. Runs in the supervisor.

A job is *assigned* from the moment it is sent until its outcome arrives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from mpdispatch.model import ClaimedJob


class WorkerState(StrEnum):
    BOOTING = "booting"
    """Importing the app."""
    READY = "ready"
    """Takes jobs."""
    RETIRING = "retiring"
    """Gets no more jobs; ends when it has none assigned."""
    KILLED = "killed"
    """Was sent SIGKILL; its end is awaited."""


class StopReason(StrEnum):
    """Why we are ending a running job."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    ABORT = "abort"


@dataclass(slots=True, eq=False)
class Assignment:
    """A job given to a worker. Times are boottime µs."""

    job: ClaimedJob
    estimate_us: int
    """How long its handler took lately; 0: unknown."""
    stop_reason: StopReason | None = None
    started_us: int | None = None
    """When its handler was called, once that is known."""
    at_head_us: int = 0
    """When it was first seen to be the next job and not yet begun."""
    was_spared: bool = False
    """Whether the kill was put off once, because its worker had unread messages."""
    kill_at_us: int = 0
    """When the worker gets SIGKILL if the job has not ended before. Set with `stop_reason` only."""


@dataclass(slots=True, eq=False, kw_only=True)
class AssignedJobs:
    """The assigned jobs of one worker, in the order sent, and what is counted of them."""

    assigned: deque[Assignment] = field(default_factory=deque)
    unwritten: int = 0
    """Jobs sent to it whose outcome is not on disk yet: their start marks are still needed. Written only here."""
    work_us: int = 0
    """The estimated run time of its assigned jobs, µs."""
    jobs_sent: int = 0

    def hold(self, jobs: Sequence[ClaimedJob], estimate_us: int) -> None:
        """Assign jobs of one handler, each with this estimated run time."""
        self.assigned += [Assignment(job, estimate_us) for job in jobs]
        self.work_us += len(jobs) * estimate_us
        self.unwritten += len(jobs)
        self.jobs_sent += len(jobs)

    def take_last(self, count: int) -> list[ClaimedJob]:
        """Take back this many jobs that it has not begun, the last ones, oldest first."""
        taken = [self.assigned.pop() for _ in range(count)]
        taken.reverse()
        self.work_us -= sum(held.estimate_us for held in taken)
        self.unwritten -= count
        return [held.job for held in taken]

    def answered(self, job_id: int, starts: int) -> Assignment | None:
        """Remove the answered job from the assigned ones; None: it is not among them."""
        assigned = self.assigned
        if assigned and (first := assigned[0]).job.id == job_id and first.job.starts == starts:
            assigned.popleft()  # in order, as nearly always
            self.work_us -= first.estimate_us
            return first
        held = self.find(job_id, starts)
        if held is not None:
            self.take_out(held)
        return held

    def take_out(self, held: Assignment) -> None:
        """Remove an assigned job whose outcome is known. It is `written` once that is on disk."""
        self.assigned.remove(held)
        self.work_us -= held.estimate_us

    def drop(self, held: Assignment) -> None:
        """Remove an assigned job that will have no outcome: it never began, or it is not ours any more."""
        self.take_out(held)
        self.unwritten -= 1

    def drop_all(self) -> None:
        """As `drop`, of everything: a rescuer decides."""
        self.assigned.clear()
        self.work_us = self.unwritten = 0

    def written(self) -> None:
        """The outcome of one of its jobs is on disk."""
        self.unwritten -= 1

    def find(self, job_id: int, starts: int) -> Assignment | None:
        """The assigned job with this fencing token, or None."""
        for held in self.assigned:
            if held.job.id == job_id and held.job.starts == starts:
                return held
        return None

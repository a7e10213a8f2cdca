"""What a supervisor holds in memory: claimed jobs not given out, and outcomes not on disk yet. No I/O.

Every running row this supervisor owns is in exactly one place: the backlog, a worker's hand, or the pending outcomes.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field

from mpdispatch.clock import Instant
from mpdispatch.model import ClaimedJob, JobState, Transition
from mpdispatch.pool.process import WorkerProcess
from mpdispatch.store.values import Progress
from mpdispatch.supervisor.outputs import Outputs
from mpdispatch.supervisor.rated import RatedQueues

__all__ = ["InFlight", "PendingOutcome"]


_OLD_US = 8_000
"""No outcome counts as older than this: its age is by the wall clock, which may have been set."""


def _claim_order(job: ClaimedJob) -> tuple[int, int, int]:
    return -job.priority, job.run_at_us, job.id


def _age_us(transition: Transition, now: Instant) -> int:
    """How long ago a worker gave this outcome: it may have lain in its reply ring for a while."""
    run = transition.run
    if run is None or run.duration_us is None:
        return 0
    return min(max(0, now.wall_us - run.started_us - run.duration_us), _OLD_US)


@dataclass(slots=True)
class PendingOutcome:
    """A decided outcome on its way to disk, and the worker whose mark still guards it."""

    job: ClaimedJob
    transition: Transition
    worker: WorkerProcess | None


@dataclass(slots=True)
class InFlight:
    """Not thread-safe: the loop's only. Its fields are written only here."""

    backlog: list[ClaimedJob] = field(default_factory=list)
    """In claim order: priority descending, run_at, id."""
    backlog_since_us: int = 0
    """Boottime since which the backlog was not empty."""
    pending: list[PendingOutcome] = field(default_factory=list)
    pending_since_us: int = 0
    """Boottime at which the first of them was given."""
    progress: dict[int, Progress] = field(default_factory=dict)
    """The latest report per job."""
    progress_since_us: int = 0
    """Boottime since which there is any."""
    outputs: Outputs = field(default_factory=Outputs)
    """What running jobs wrote."""
    rated: RatedQueues = field(default_factory=RatedQueues)
    completed: int = 0
    failed: int = 0
    stale_writes: int = 0

    def add(self, job: ClaimedJob, transition: Transition, worker: WorkerProcess | None, now: Instant) -> None:
        """An outcome was decided."""
        if not self.pending:
            self.pending_since_us = now.boot_us - _age_us(transition, now)
        self.pending.append(PendingOutcome(job, transition, worker))

    def report(self, progress: Progress, now_us: int) -> None:
        """A handler said how far it is."""
        if not self.progress:
            self.progress_since_us = now_us
        self.progress[progress.job_id] = progress

    def put_back(self, jobs: Iterable[ClaimedJob], now_us: int) -> None:
        """Add jobs to the backlog, in their order of claim."""
        was_empty = not self.backlog
        self.backlog.extend(jobs)
        if was_empty:
            self.backlog_since_us = now_us  # and they come in order
        else:
            self.backlog.sort(key=_claim_order)

    def keep(self, backlog: list[ClaimedJob], since_us: int | None = None) -> None:
        """The backlog is what is left of it, in its order. `since_us`: when some of it was given out, if it was."""
        self.backlog = backlog
        if since_us is not None:
            self.backlog_since_us = since_us

    def before_held(self) -> int:
        """How many jobs of the backlog, the first ones, come before those that wait for a worker (see `RatedQueues`)."""
        held_from = self.rated.held_from
        if held_from is None:
            return len(self.backlog)
        return bisect.bisect_left(self.backlog, held_from, key=_claim_order)

    def take_out(self, job: ClaimedJob) -> bool:
        """Take this job out of the backlog; False: it is not there."""
        before = len(self.backlog)
        self.backlog = [each for each in self.backlog if (each.id, each.starts) != (job.id, job.starts)]
        return len(self.backlog) < before

    def written(self, count: int, progress: Iterable[Progress]) -> None:
        """The first so many pending outcomes, and these reports, are on disk; others may have come meanwhile."""
        for item in self.pending[:count]:
            if item.worker is not None:
                item.worker.settled()
        del self.pending[:count]
        for report in progress:
            if self.progress.get(report.job_id) is report:
                del self.progress[report.job_id]

    def recorded(self, state: JobState, count: int = 1) -> None:
        """So many jobs of ours, or of a supervisor whose jobs we took over, are in this state on disk."""
        if state is JobState.COMPLETED:
            self.completed += count
        elif state is JobState.FAILED:
            self.failed += count

    def stale(self, count: int = 1) -> None:
        """So many outcomes were, or will be, dropped: the jobs are not ours any more."""
        self.stale_writes += count

    @property
    def has_news(self) -> bool:
        """Whether a commit would have anything to write, or a claimed job waits for a worker."""
        return bool(self.pending or self.progress or self.backlog) or self.outputs.next_us is not None

    def drop(self) -> None:
        """Forget everything: these jobs are not ours any more, and their outcomes are worth nothing."""
        self.stale(len(self.pending))
        self.backlog.clear()
        self.pending.clear()
        self.progress.clear()
        self.outputs.clear()
        self.rated.clear()

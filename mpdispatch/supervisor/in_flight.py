"""What a supervisor holds in memory: claimed jobs not assigned yet, and outcomes not on disk yet. No I/O.

Every running row this supervisor owns is in exactly one place: the backlog, a worker, or the pending outcomes.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field

from mpdispatch.clock import Instant
from mpdispatch.model import ClaimedJob, JobState, Transition
from mpdispatch.pool.protocol import Worker
from mpdispatch.store.values import Progress
from mpdispatch.supervisor.outputs import Outputs
from mpdispatch.supervisor.rated import RatedQueues

_OLD_US = 8_000
"""Upper limit of an outcome's age, which is measured by the wall clock, and that may have been set."""


def _claim_order(job: ClaimedJob) -> tuple[int, int, int]:
    return -job.priority, job.run_at_us, job.id


def _age_us(transition: Transition, now: Instant) -> int:
    """How long ago a worker sent this outcome: it may have waited in the reply ring."""
    run = transition.run
    if run is None or run.duration_us is None:
        return 0
    return min(max(0, now.wall_us - run.started_us - run.duration_us), _OLD_US)


@dataclass(slots=True)
class PendingOutcome:
    """A decided outcome on its way to disk, and the worker whose journal record still holds it."""

    job: ClaimedJob
    transition: Transition
    worker: Worker | None


@dataclass(slots=True)
class InFlight:
    """Not thread-safe: the loop's thread only. Its fields are written only here."""

    backlog: list[ClaimedJob] = field(default_factory=list)
    """In claim order: priority descending, run_at, id."""
    backlog_since_us: int = 0
    """Boottime since which the backlog has waited: when it filled, or when some of it was last assigned."""
    pending: list[PendingOutcome] = field(default_factory=list)
    pending_since_us: int = 0
    """Boottime at which a worker sent the first of them."""
    progress: dict[int, Progress] = field(default_factory=dict)
    """The latest report per job."""
    progress_since_us: int = 0
    """Boottime since which there are reports."""
    outputs: Outputs = field(default_factory=Outputs)
    """What running jobs wrote."""
    rated: RatedQueues = field(default_factory=RatedQueues)
    completed: int = 0
    failed: int = 0
    written_count: int = 0
    """How many outcomes were recorded so far."""
    stale_writes: int = 0

    def add(self, job: ClaimedJob, transition: Transition, worker: Worker | None, now: Instant) -> None:
        """An outcome was decided."""
        if not self.pending:
            self.pending_since_us = now.boot_us - _age_us(transition, now)
        self.pending.append(PendingOutcome(job, transition, worker))

    def report(self, progress: Progress, now_us: int) -> None:
        """A handler reported its progress."""
        if not self.progress:
            self.progress_since_us = now_us
        self.progress[progress.job_id] = progress

    def put_back(self, jobs: Iterable[ClaimedJob], now_us: int) -> None:
        """Add jobs to the backlog, in claim order."""
        was_empty = not self.backlog
        self.backlog.extend(jobs)
        if was_empty:
            self.backlog_since_us = now_us  # no sort: they come in order
        else:
            self.backlog.sort(key=_claim_order)

    def keep(self, backlog: list[ClaimedJob], since_us: int | None = None) -> None:
        """Replace the backlog by its remaining jobs, in order. `since_us`: when some was assigned."""
        self.backlog = backlog
        if since_us is not None:
            self.backlog_since_us = since_us

    def before_held(self) -> int:
        """How many jobs at the front of the backlog come before the held-back jobs (see `RatedQueues`)."""
        held_from = self.rated.held_from
        if held_from is None:
            return len(self.backlog)
        return bisect.bisect_left(self.backlog, held_from, key=_claim_order)

    def take_out(self, job: ClaimedJob) -> bool:
        """Remove this job from the backlog; False: it is not there."""
        before = len(self.backlog)
        self.backlog = [each for each in self.backlog if (each.id, each.starts) != (job.id, job.starts)]
        return len(self.backlog) < before

    def written(self, count: int, progress: Iterable[Progress]) -> None:
        """The first `count` pending outcomes and these reports are on disk; there may be newer ones."""
        for item in self.pending[:count]:
            if item.worker is not None:
                item.worker.written()
        del self.pending[:count]
        self.written_count += count
        for report in progress:
            if self.progress.get(report.job_id) is report:
                del self.progress[report.job_id]

    def recorded(self, state: JobState, count: int = 1) -> None:
        """`count` jobs of ours, or of a supervisor we took over from, are in this state on disk."""
        if state is JobState.COMPLETED:
            self.completed += count
        elif state is JobState.FAILED:
            self.failed += count

    def stale(self, count: int = 1) -> None:
        """`count` outcomes were or will be dropped, because the jobs are not ours any more."""
        self.stale_writes += count

    @property
    def has_news(self) -> bool:
        """Whether a commit would have anything to write, or a claimed job waits for a worker."""
        return bool(self.pending or self.progress or self.backlog) or self.outputs.next_us is not None

    def drop(self) -> None:
        """Forget everything: these jobs are not ours any more, so their outcomes are dropped."""
        self.stale(len(self.pending))
        self.backlog.clear()
        self.pending.clear()
        self.progress.clear()
        self.outputs.clear()
        self.rated.clear()

"""Waiting for jobs to end. A terminal shows how many have ended, and how far the one is that is waited for."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mpdispatch.cli.output import complain, escape
from mpdispatch.cli.progress import progress_text
from mpdispatch.engine.client import JobClient
from mpdispatch.errors import JobCancelledError, JobFailedError, WaitTimeoutError
from mpdispatch.model import Job, JobState
from mpdispatch.model.progress import progress_of, run_s
from mpdispatch.policy.durations import duration_text

if TYPE_CHECKING:
    from rich.progress import Progress

_LOOK_S = 0.25
"""How often a bar moves; a job that ends sooner shows none."""


def wait_for(client: JobClient, ids: Sequence[int], *, timeout_s: float | None = None) -> Iterator[Job]:
    """Each job as it ended, in the order of `ids`, as soon as it and all before it have ended.

    Raises:
        JobNotFoundError: there is no such job.
        WaitTimeoutError: one has not ended `timeout_s` from now.
    """
    if not all(client.state_of(i).is_terminal for i in ids[:1]) and not client.has_supervisor():
        complain("no supervisor is running; `mpdispatch supervise` starts one (waiting)")
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with _bars(len(ids)) as bars:
        for job_id in ids:
            # One after the other: a job that has ended meanwhile costs one read.
            try:
                job = _ended(client, job_id, deadline, bars)
            except WaitTimeoutError as error:
                # The time of the whole wait, not what was left of it for this job.
                raise WaitTimeoutError(job_id, timeout_s or 0.0, error.state, error.why) from None
            if bars is not None:
                bars.ended()
            yield job


def _ended(client: JobClient, job_id: int, deadline: float | None, bars: _Bars | None) -> Job:
    while True:
        left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        is_last = bars is None or (left_s is not None and left_s <= _LOOK_S)
        try:
            return client.wait(job_id, left_s if is_last else _LOOK_S)
        except (JobFailedError, JobCancelledError) as error:
            job: Job = error.job
            return job
        except WaitTimeoutError as error:
            if is_last:
                raise
            assert bars is not None
            bars.show(client.get_job(job_id), error.why)


@contextmanager
def _bars(total: int) -> Iterator[_Bars | None]:
    """The bars on a terminal; else None."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[note]}", markup=False),
    )
    progress = Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        expand=True,
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),  # else a pipe would get nothing
    )
    with progress:
        yield _Bars(progress, total)


class _Bars:
    """How many of the jobs have ended, if there are several, and how far the next of them is."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._count, self._total = progress, 0, total
        self._all = progress.add_task("ended", total=total, visible=total > 1, note=f"0/{total}")
        self._job = progress.add_task("", total=None, visible=False, note="")

    def ended(self) -> None:
        self._count += 1
        task = self._progress.tasks[self._all]
        left = f", {duration_text(task.time_remaining)} left" if task.time_remaining else ""
        self._progress.update(self._all, advance=1, note=f"{self._count:,}/{self._total:,}{left}")
        self._progress.update(self._job, visible=False)

    def show(self, job: Job, why: str) -> None:
        """`why` it has not ended; shown while it does not run."""
        now = datetime.now(UTC)
        found = progress_of(job, now) if job.state is JobState.RUNNING else None
        note = why
        if job.state is JobState.RUNNING:
            note = f"runs for {duration_text(run_s(job, now) or 0)}" if found is None else progress_text(found)
        share = None if found is None else found.share
        self._progress.update(
            self._job,
            description=escape(f"job {job.id} ({job.name})"),
            total=None if share is None and job.state is JobState.RUNNING else 1.0,
            completed=share or 0.0,
            note=escape(note),
            visible=True,
        )

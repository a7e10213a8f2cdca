"""Waiting for jobs to end, with a progress bar on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mpdispatch.cli.output import complain
from mpdispatch.engine.client import JobClient
from mpdispatch.errors import JobCancelledError, JobFailedError, WaitTimeoutError
from mpdispatch.model import Job


def wait_for(client: JobClient, ids: Sequence[int], *, timeout_s: float | None = None) -> Iterator[Job]:
    """Each job as it ended, in the order of `ids`, as soon as it and all before it have ended.

    Raises:
        JobNotFoundError: there is no such job.
        WaitTimeoutError: one has not ended `timeout_s` from now.
    """
    if not all(client.state_of(i).is_terminal for i in ids[:1]) and not client.has_supervisor():
        complain("no supervisor is running; `mpdispatch supervise` starts one (waiting)")
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with _progress_bar(len(ids)) as advance:
        for job_id in ids:
            # One after the other: a job that has ended meanwhile costs one read.
            left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                job = client.wait(job_id, left_s)
            except (JobFailedError, JobCancelledError) as error:
                job = error.job
            except WaitTimeoutError as error:
                # The time of the whole wait, not what was left of it for this job.
                raise WaitTimeoutError(job_id, timeout_s or 0.0, error.state, error.why) from None
            advance()
            yield job


@contextmanager
def _progress_bar(total: int) -> Iterator[Callable[[], None]]:
    """Inside it a terminal shows the bar; each call of what it gives is one step."""
    if total < 2 or sys.stderr is None or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)

"""Prints the jobs that a command has enqueued, and how they ended if it waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from mpdispatch.cli.output import print_json, print_line
from mpdispatch.cli.program import Options
from mpdispatch.cli.waiting import wait_for
from mpdispatch.engine.client import JobClient
from mpdispatch.model import Enqueued, Job, JobState
from mpdispatch.model.json import job_to_json


def job_json(job: Job) -> dict[str, Any]:
    """The JSON of a job as it is now."""
    return job_to_json(job, datetime.now(UTC))


def ends_of(
    options: Options, client: JobClient, ids: Sequence[int], *, timeout_s: float | None = None
) -> tuple[int, list[dict[str, Any]]]:
    """Wait for these jobs; gives the exit code and, for `--json`, the jobs. Else each end is printed at once."""
    import json  # most commands that enqueue do not wait

    code, ended = 0, list[dict[str, Any]]()
    for job in wait_for(client, ids, timeout_s=timeout_s):
        is_completed = job.state is JobState.COMPLETED
        if not is_completed:
            code = 1
        if options.json:
            ended.append(job_json(job))
            continue
        outcome = json.dumps(job.result) if is_completed else job.last_error
        print_line(f"{job.id} {job.state}" + (f" {outcome}" if outcome is not None else ""))
    return code, ended


def print_enqueued(options: Options, client: JobClient, made: Job | Enqueued, *, wait: bool) -> int:
    """Print the id of a new job, or the ids of many, and with `--wait` how they ended; gives the exit code."""
    ids = [made.id] if isinstance(made, Job) else made.ids
    answer: Any = {"batch_id": made.batch_id, "count": len(ids), "ids": list(ids)}
    if not options.json:
        for job_id in ids:
            print_line(job_id)
    code = 0
    if wait:
        code, answer = ends_of(options, client, ids)
    elif isinstance(made, Job):
        answer = [job_json(made)]
    if options.json:
        print_json(answer[0] if isinstance(made, Job) else answer)
    return code

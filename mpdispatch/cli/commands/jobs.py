"""`jobs`, `show` and `wait`: look at jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import click

from mpdispatch.cli.clients import open_client
from mpdispatch.cli.completing import complete_job, complete_name, complete_queue
from mpdispatch.cli.output import (
    escape,
    items_of,
    print_json,
    print_json_array,
    print_line,
    print_table,
    shorten,
    time_text,
)
from mpdispatch.cli.program import Options, command
from mpdispatch.cli.values import DURATION, JOB_ID
from mpdispatch.cli.waiting import wait_for
from mpdispatch.engine.client import JobClient
from mpdispatch.model import Attempt, ErrorInfo, Job, JobState
from mpdispatch.model.json import to_json

_LINES_SHOWN = 20


@command(
    "mpdispatch jobs --state failed\nmpdispatch jobs --queue bulk --limit 200\nmpdispatch jobs --all --json"
)
@click.option(
    "--state", type=click.Choice([state.value for state in JobState]), help="Only jobs in this state."
)
@click.option("--queue", metavar="QUEUE", help="Only jobs of this queue.", shell_complete=complete_queue)
@click.option("--name", metavar="NAME", help="Only jobs of this name.", shell_complete=complete_name)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many at most.")
@click.option("--cursor", metavar="CURSOR", help="Go on where another list ended.")
@click.option("--all", "everything", is_flag=True, help="All of them, whatever --limit says.")
@click.pass_obj
def jobs(
    options: Options,
    state: str | None,
    queue: str | None,
    name: str | None,
    limit: int,
    cursor: str | None,
    everything: bool,
) -> None:
    """List jobs, newest first."""
    pages = partial(open_client(options).list_jobs, state=state, queue=queue, name=name)
    found, next_cursor = items_of(pages, limit=limit, cursor=cursor, everything=everything)
    if options.json:
        print_json_array(map(to_json, found))
    else:
        columns = ["id", "name", "queue", "state", "attempt", "run at", "note"]
        print_table(columns, map(_row, found), right=["id", "attempt"])
    if next_cursor is not None:
        click.echo(f"there are more: --cursor {escape(next_cursor)}, or --all", err=True)


def _brief(error: ErrorInfo | None) -> str:
    """The error for a column: its class without the module."""
    return "" if error is None else f"{error.type.rpartition('.')[2]}: {error.message}"


def _row(job: Job) -> Sequence[object]:
    note = job.blocked_reason or _brief(job.last_error)
    return job.id, job.name, job.queue, job.state, job.attempt, time_text(job.run_at), shorten(note, 60)


@command("mpdispatch show 41\nmpdispatch show 41 --json")
@click.argument("job_id", metavar="ID", type=JOB_ID, shell_complete=complete_job)
@click.pass_obj
def show(options: Options, job_id: int) -> None:
    """Show one job: its arguments, its outcome, and every start of it."""
    client = open_client(options)
    job, attempts = client.get_job(job_id), client.attempts(job_id)
    if options.json:
        print_json({**to_json(job), "attempts": [to_json(attempt) for attempt in attempts]})
        return
    print_job(to_json(job), attempts, job.last_error)


def print_job(facts: Mapping[str, Any], attempts: Sequence[Attempt], error: ErrorInfo | None) -> None:
    """Print a job for people: its facts, the table of its attempts, the traceback of its last error."""
    facts = {key: value for key, value in facts.items() if value is not None and key != "last_error"}
    width = max(map(len, facts))
    for key, value in facts.items():
        print_line(
            f"{key:<{width}}  {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        )
    if attempts:
        click.echo()
        columns = ["start", "attempt", "cause", "started", "seconds", "pid", "error"]
        print_table(columns, map(_attempt_row, attempts), right=["start", "attempt", "seconds", "pid"])
    if attempts:
        _print_output(attempts[-1])
    if error is not None:
        click.echo()
        for line in (error.traceback or str(error)).splitlines():
            print_line(line)


def _print_output(attempt: Attempt) -> None:
    """Print the last lines that this start wrote."""
    for stream, text in (("stdout", attempt.stdout), ("stderr", attempt.stderr), ("log", attempt.log)):
        if not text:
            continue
        lines = text.splitlines()
        cut = f" (the last {_LINES_SHOWN} lines; all: mpdispatch logs {attempt.job_id})"
        click.echo(f"\n{stream} of start {attempt.starts}:{cut if len(lines) > _LINES_SHOWN else ''}")
        for line in lines[-_LINES_SHOWN:]:
            print_line(line)


def _attempt_row(attempt: Attempt) -> Sequence[object]:
    seconds = "" if attempt.duration_s is None else f"{attempt.duration_s:.3f}"
    note = _brief(attempt.error) or attempt.signal or ""
    started = time_text(attempt.started_at)
    return (
        attempt.starts,
        attempt.attempt,
        attempt.cause,
        started,
        seconds,
        attempt.worker_pid,
        shorten(note, 60),
    )


@command("mpdispatch wait 41 42\nmpdispatch wait 41 --for 5m --json")
@click.argument("ids", metavar="ID...", nargs=-1, required=True, type=JOB_ID, shell_complete=complete_job)
@click.option("--for", "timeout_s", type=DURATION, help="Give up after this long (30s, 5m); the jobs go on.")
@click.pass_obj
def wait(options: Options, ids: Sequence[int], timeout_s: float | None) -> int:
    """Wait until jobs have ended. Exits 1 if one of them did not complete."""
    code, ended = ends_of(options, open_client(options), ids, timeout_s=timeout_s)
    if options.json:
        print_json_array(ended)
    return code


def ends_of(
    options: Options, client: JobClient, ids: Sequence[int], *, timeout_s: float | None = None
) -> tuple[int, list[dict[str, Any]]]:
    """Wait for these jobs; gives the exit code and, for `--json`, the jobs. Else each end is printed at once."""
    code, ended = 0, list[dict[str, Any]]()
    for job in wait_for(client, ids, timeout_s=timeout_s):
        is_completed = job.state is JobState.COMPLETED
        if not is_completed:
            code = 1
        if options.json:
            ended.append(to_json(job))
            continue
        outcome = json.dumps(job.result) if is_completed else job.last_error
        print_line(f"{job.id} {job.state}" + (f" {outcome}" if outcome is not None else ""))
    return code, ended

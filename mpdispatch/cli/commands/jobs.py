"""`jobs`, `show`, `explain` and `wait`: look at jobs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import click

from mpdispatch.cli.clients import open_client
from mpdispatch.cli.columns import Column
from mpdispatch.cli.enqueued import ends_of, job_json
from mpdispatch.cli.job_texts import arguments_text, brief, duration_cell, note_of
from mpdispatch.cli.locate import app_on_command_line, find_settings
from mpdispatch.cli.output import (
    print_json,
    print_json_array,
    print_line,
    print_pages,
    print_table,
    time_text,
)
from mpdispatch.cli.parameters import (
    batch_option,
    complete_job,
    complete_living_or_cron,
    filter_options,
    id_argument,
    ids_argument,
    paging_options,
)
from mpdispatch.cli.program import Options, command
from mpdispatch.cli.progress import progress_text
from mpdispatch.cli.relations import relations
from mpdispatch.cli.values import DURATION
from mpdispatch.config import QueueConfig
from mpdispatch.model import Attempt, ErrorInfo, Job, JobState
from mpdispatch.model.json import job_to_json, shown_job_to_json
from mpdispatch.model.progress import JobProgress, progress_of
from mpdispatch.policy.durations import duration_text

_LINES_SHOWN = 20


@command("mpdispatch jobs --state failed\nmpdispatch jobs --batch 7 --limit 200\nmpdispatch jobs --all --json")
@click.option(
    "--state", type=click.Choice([state.value for state in JobState]), help="Only jobs in this state."
)
@filter_options
@batch_option
@paging_options
def jobs(
    options: Options, state: str | None, queue: str | None, name: str | None, batch: int | None, **paging: Any
) -> None:
    """List jobs, newest first."""
    pages = partial(open_client(options).list_jobs, state=state, queue=queue, name=name, batch=batch)
    print_pages(pages, job_json, _COLUMNS, _row, as_json=options.json, **paging)


_COLUMNS = (
    Column(name="id", is_right=True),
    Column(name="name", least=16),
    Column(name="state"),
    Column(name="queue", least=12, rank=2),
    Column(name="attempt", is_right=True, rank=3),
    Column(name="run at", rank=4),
    Column(name="duration", is_right=True),
    Column(name="arguments", least=20, is_cut=True),
    Column(name="note", least=32),
)


def _row(job: Job) -> Sequence[object]:
    now = datetime.now(UTC)
    when, duration = time_text(job.run_at), duration_cell(job, now)
    about = arguments_text(job), note_of(job, now)
    return job.id, job.name, job.state, job.queue, job.attempt, when, duration, *about


@command("mpdispatch show 41\nmpdispatch show 41 --json")
@id_argument(complete_job)
def show(options: Options, job_id: int) -> None:
    """Show one job: its arguments, its outcome, and every start of it."""
    client = open_client(options)
    job, attempts = client.get_job(job_id), client.attempts(job_id)
    parents, dependents = client.parents(job_id), client.dependents(job_id)
    now = datetime.now(UTC)
    if options.json:
        print_json(shown_job_to_json(job, attempts, parents, dependents.total, now))
        return
    facts = job_to_json(job, now)
    del facts["created"]  # which says something only where a job is made
    for_people(facts, progress_of(job, now))
    print_job({**facts, **relations(parents, dependents)}, attempts, job.last_error)


def for_people(facts: dict[str, Any], progress: JobProgress | None = None) -> None:
    """Put the duration and the progress of a job into words."""
    facts.pop("eta_s", None)
    if (duration_s := facts.pop("duration_s")) is not None:
        facts["duration"] = duration_text(duration_s)
    if progress is not None:
        facts["progress"] = progress_text(progress)


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
        print_table(_ATTEMPT_COLUMNS, map(_attempt_row, attempts))
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


_ATTEMPT_COLUMNS = (
    Column(name="start", is_right=True),
    Column(name="attempt", is_right=True, rank=2),
    Column(name="cause"),
    Column(name="started", rank=1),
    Column(name="seconds", is_right=True),
    Column(name="pid", is_right=True, rank=3),
    Column(name="error", least=32),
)


def _attempt_row(attempt: Attempt) -> Sequence[object]:
    seconds = "" if attempt.duration_s is None else f"{attempt.duration_s:.3f}"
    note = brief(attempt.error) or attempt.signal
    started = time_text(attempt.started_at)
    pid = attempt.worker_pid
    return attempt.starts, attempt.attempt, attempt.cause, started, seconds, pid, note


@command("mpdispatch explain 41\nmpdispatch explain 41 -A tasks:engine\nmpdispatch explain nightly")
@click.argument("which", metavar="ID|NAME", shell_complete=complete_living_or_cron)
def explain(options: Options, which: str) -> None:
    """Say why a job is not running yet, or why a cron entry did not fire: what weighs most first, and what to do about it.

    With an app (-A) its queues' limits count too.
    """
    if not which.isdecimal():
        _explain_cron(options, which)
        return
    job, reasons = open_client(options).explain(int(which), queue_configs=_queue_configs(options))
    if options.json:
        print_json({"id": job.id, "state": job.state.value, "reasons": [*map(dataclasses.asdict, reasons)]})
        return
    print_line(f"job {job.id} ({job.name}, queue {job.queue}) is {job.state}")
    for reason in reasons:
        print_line(f"- {reason}")


def _explain_cron(options: Options, name: str) -> None:
    entry, reasons = open_client(options).crons.explain(name)
    if options.json:
        print_json({"id": entry.id, "name": entry.name, "reasons": [*map(dataclasses.asdict, reasons)]})
        return
    print_line(f"cron entry {entry.name} ({entry.schedule}, {entry.tz}) enqueues {entry.job_name}")
    for reason in reasons:
        print_line(f"- {reason}")


def _queue_configs(options: Options) -> list[QueueConfig]:
    """The limits of queues that are known without a supervisor: of the app, if one is named, and of the file."""
    found = {each.name: each for each in find_settings(options).others["queue_configs"]}
    if (engine := app_on_command_line(options)) is not None:
        found |= {each.name: each for each in engine.queue_configs}
    return list(found.values())


@command("mpdispatch wait 41 42\nmpdispatch wait 41 --for 5m --json")
@ids_argument(complete_job)
@click.option("--for", "timeout_s", type=DURATION, help="Give up after this long (30s, 5m); the jobs go on.")
def wait(options: Options, ids: Sequence[int], timeout_s: float | None) -> int:
    """Wait until jobs have ended. Exits 1 if one of them did not complete."""
    code, ended = ends_of(options, open_client(options), ids, timeout_s=timeout_s)
    if options.json:
        print_json_array(ended)
    return code

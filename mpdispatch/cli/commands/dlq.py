"""`dlq`: dead letters, the jobs that failed for good. Each has the id of its job."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import click

from mpdispatch.cli.clients import open_client, open_client_with_hooks
from mpdispatch.cli.commands.change import each_of
from mpdispatch.cli.commands.jobs import print_job
from mpdispatch.cli.completing import complete_dead_letter, complete_name, complete_queue
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
from mpdispatch.cli.program import Options, command_group
from mpdispatch.cli.values import AGE, JOB_ID
from mpdispatch.model import DeadLetter, Job
from mpdispatch.model.json import dead_letter_to_json, to_json


@command_group("mpdispatch dlq list\nmpdispatch dlq replay 41", name="dlq")
def dlq() -> None:
    """Look after dead letters: jobs that failed and are not tried again. Each has its job's id."""


@dlq.add("mpdispatch dlq list\nmpdispatch dlq list --queue bulk --replayed --json", name="list")
@click.option("--queue", metavar="QUEUE", help="Only those of this queue.", shell_complete=complete_queue)
@click.option("--name", metavar="NAME", help="Only those of jobs of this name.", shell_complete=complete_name)
@click.option("--replayed", is_flag=True, help="Also those that were replayed already.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many at most.")
@click.option("--cursor", metavar="CURSOR", help="Go on where another list ended.")
@click.option("--all", "everything", is_flag=True, help="All of them, whatever --limit says.")
@click.pass_obj
def list_(
    options: Options,
    queue: str | None,
    name: str | None,
    replayed: bool,
    limit: int,
    cursor: str | None,
    everything: bool,
) -> None:
    """List dead letters, the last failed first."""
    letters = open_client(options).dead_letters
    pages = partial(letters.list, queue=queue, name=name, replayed=None if replayed else False)
    found, next_cursor = items_of(pages, limit=limit, cursor=cursor, everything=everything)
    if options.json:
        print_json_array(map(dead_letter_to_json, found))
    else:
        columns = ["id", "name", "queue", "attempt", "failed at", "replayed as", "error"]
        print_table(columns, map(_row, found), right=["id", "attempt", "replayed as"])
    if next_cursor is not None:
        click.echo(f"there are more: --cursor {escape(next_cursor)}, or --all", err=True)


def _row(letter: DeadLetter) -> Sequence[object]:
    job = letter.job
    error = shorten(str(job.last_error or ""), 60)
    return letter.id, job.name, job.queue, job.attempt, time_text(letter.failed_at), letter.replayed_as, error


@dlq.add("mpdispatch dlq show 41", name="show")
@click.argument("job_id", metavar="ID", type=JOB_ID, shell_complete=complete_dead_letter)
@click.pass_obj
def show(options: Options, job_id: int) -> None:
    """Show one dead letter: the failed job, every start of it, and what became of it."""
    client = open_client(options)
    letter, attempts = client.dead_letters.get(job_id), client.attempts(job_id)
    facts = dead_letter_to_json(letter)
    if options.json:
        print_json({**facts, "attempts": [to_json(attempt) for attempt in attempts]})
        return
    del facts["job_id"]
    print_job(facts, attempts, letter.job.last_error)


@dlq.add("mpdispatch dlq replay 41\nmpdispatch dlq replay 41 42", name="replay")
@click.argument(
    "ids",
    metavar="ID...",
    nargs=-1,
    required=True,
    type=JOB_ID,
    shell_complete=complete_dead_letter,
)
@click.pass_obj
def replay(options: Options, ids: Sequence[int]) -> int:
    """Enqueue failed jobs again, as new jobs. One that was replayed before is not enqueued a second time.

    The app's hooks are told of new jobs if the app is known: by -A, MPDISPATCH_APP or the configuration file.
    """

    def message_of(job: Job, job_id: int) -> str:
        if not job.created:
            return f"job {job_id} was replayed before, as job {job.id} ({job.state})"
        return f"job {job_id} runs again as job {job.id}"

    return each_of(options, ids, open_client_with_hooks(options).dead_letters.replay, message_of)


@dlq.add("mpdispatch dlq purge --older-than 30d\nmpdispatch dlq purge --queue bulk", name="purge")
@click.option("--older-than", metavar="AGE", type=AGE, help="Only those that failed longer ago (12h, 30d).")
@click.option("--queue", metavar="QUEUE", help="Only those of this queue.", shell_complete=complete_queue)
@click.option("--name", metavar="NAME", help="Only those of jobs of this name.", shell_complete=complete_name)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def purge(options: Options, older_than: float | None, queue: str | None, name: str | None, yes: bool) -> None:
    """Delete dead letters, replayed or not. Their jobs stay, as failed; `retry` still enqueues them again.

    Without an option, all of them: on a terminal it asks first.
    """
    letters = open_client(options).dead_letters
    if older_than is None and queue is None and name is None and not yes and sys.stdin.isatty():
        click.confirm("Delete all dead letters?", abort=True, err=True)
    deleted = letters.purge(queue=queue, name=name, older_than=older_than)
    if options.json:
        print_json({"purged": deleted})
    else:
        print_line(f"purged: {deleted}")

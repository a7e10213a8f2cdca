"""`dlq`: dead letters, the jobs that failed for good. Each has the id of its job."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from mpdispatch.cli.clients import open_client, open_client_with_hooks
from mpdispatch.cli.columns import Column
from mpdispatch.cli.commands.change import each_of
from mpdispatch.cli.commands.jobs import for_people, print_job
from mpdispatch.cli.job_texts import arguments_text, duration_cell
from mpdispatch.cli.output import print_answer, print_json, print_pages, time_text
from mpdispatch.cli.parameters import (
    complete_dead_letter,
    filter_options,
    id_argument,
    ids_argument,
    paging_options,
)
from mpdispatch.cli.program import Options, command_group
from mpdispatch.cli.values import AGE
from mpdispatch.model import DeadLetter, Job
from mpdispatch.model.json import dead_letter_to_json, to_json


@command_group("mpdispatch dlq list\nmpdispatch dlq replay 41", name="dlq")
def dlq() -> None:
    """List, show, replay or purge dead letters: jobs that failed for good. Each has the id of its job."""


@dlq.add("mpdispatch dlq list\nmpdispatch dlq list --queue bulk --replayed --json", name="list")
@filter_options
@click.option("--replayed", is_flag=True, help="Also those that were replayed already.")
@paging_options
def list_(options: Options, queue: str | None, name: str | None, replayed: bool, **paging: Any) -> None:
    """List dead letters, the last failed first."""
    letters = open_client(options).dead_letters
    pages = partial(letters.list, queue=queue, name=name, replayed=None if replayed else False)
    columns = [*_COLUMNS, _REPLAYED_AS, _ERROR] if replayed else [*_COLUMNS, _ERROR]

    def row(letter: DeadLetter) -> Sequence[object]:
        return *_row(letter), *([letter.replayed_as] if replayed else []), letter.job.last_error

    print_pages(pages, dead_letter_to_json, columns, row, as_json=options.json, **paging)


_COLUMNS = (
    Column(name="id", is_right=True),
    Column(name="name", least=16),
    Column(name="queue", least=12, rank=3),
    Column(name="attempt", is_right=True, rank=4),
    Column(name="failed at", rank=1),
    Column(name="duration", is_right=True),
    Column(name="arguments", least=20, is_cut=True),
)
_REPLAYED_AS = Column(name="replayed as", is_right=True)
_ERROR = Column(name="error", least=32)


def _row(letter: DeadLetter) -> Sequence[object]:
    job = letter.job
    when, duration = time_text(letter.failed_at), duration_cell(job, letter.failed_at)
    return letter.id, job.name, job.queue, job.attempt, when, duration, arguments_text(job)


@dlq.add("mpdispatch dlq show 41", name="show")
@id_argument(complete_dead_letter)
def show(options: Options, job_id: int) -> None:
    """Show one dead letter.

    Prints the failed job, every start of it, and the job it was replayed as.
    """
    client = open_client(options)
    letter, attempts = client.dead_letters.get(job_id), client.attempts(job_id)
    facts = dead_letter_to_json(letter)
    if options.json:
        print_json({**facts, "attempts": [to_json(attempt) for attempt in attempts]})
        return
    del facts["job_id"]
    for_people(facts)
    print_job(facts, attempts, letter.job.last_error)


@dlq.add("mpdispatch dlq replay 41\nmpdispatch dlq replay 41 42", name="replay")
@ids_argument(complete_dead_letter)
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
@filter_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(options: Options, older_than: float | None, queue: str | None, name: str | None, yes: bool) -> None:
    """Delete dead letters, replayed or not. Their jobs stay, as failed, for the time of `retention_failed`.

    Without an option, all of them: on a terminal it asks first.
    """
    letters = open_client(options).dead_letters
    if older_than is None and queue is None and name is None and not yes and sys.stdin.isatty():
        click.confirm("Delete all dead letters?", abort=True, err=True)
    deleted = letters.purge(queue=queue, name=name, older_than=older_than)
    print_answer({"purged": deleted}, f"purged: {deleted}", as_json=options.json)

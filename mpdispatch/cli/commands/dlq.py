"""`dlq`: dead letters, the jobs that failed for good. Each has the id of its job."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from mpdispatch.cli.clients import open_client, open_client_with_hooks
from mpdispatch.cli.columns import Column
from mpdispatch.cli.commands.change import each_of, many_again, refuse_mixture
from mpdispatch.cli.commands.jobs import for_people, print_job
from mpdispatch.cli.job_texts import arguments_text, duration_cell
from mpdispatch.cli.output import (
    print_answer,
    print_json,
    print_json_array,
    print_pages,
    print_table,
    time_text,
)
from mpdispatch.cli.parameters import (
    complete_dead_letter,
    id_argument,
    ids_argument,
    letter_filter_options,
    many_options,
    paging_options,
)
from mpdispatch.cli.program import Options, command_group
from mpdispatch.cli.values import AGE
from mpdispatch.model import DeadLetter, FailureGroup, Job
from mpdispatch.model.json import dead_letter_to_json, to_json


@command_group("mpdispatch dlq list\nmpdispatch dlq replay 41", name="dlq")
def dlq() -> None:
    """List, show, replay or purge dead letters: jobs that failed for good. Each has the id of its job."""


@dlq.add(
    "mpdispatch dlq list\nmpdispatch dlq list --group\nmpdispatch dlq list --queue bulk --replayed --json",
    name="list",
)
@letter_filter_options
@click.option("--replayed", is_flag=True, help="Also those that were replayed already.")
@click.option(
    "--group",
    is_flag=True,
    help="Count them by job name and error. Errors that differ in numbers, ids and paths are one.",
)
@paging_options
def list_(options: Options, replayed: bool, group: bool, **filters: Any) -> None:
    """List dead letters, the last failed first."""
    letters = open_client(options).dead_letters
    paging = {key: filters.pop(key) for key in ("limit", "cursor", "everything")}
    filters["replayed"] = None if replayed else False
    if group:
        _print_groups(options, letters.groups(**filters), **paging)
        return
    columns = [*_COLUMNS, _REPLAYED_AS, _ERROR] if replayed else [*_COLUMNS, _ERROR]

    def row(letter: DeadLetter) -> Sequence[object]:
        return *_row(letter), *([letter.replayed_as] if replayed else []), letter.job.last_error

    pages = partial(letters.list, **filters)
    print_pages(pages, dead_letter_to_json, columns, row, as_json=options.json, **paging)


def _print_groups(
    options: Options, groups: Sequence[FailureGroup], *, limit: int, cursor: str | None, everything: bool
) -> None:
    if cursor is not None:
        raise click.UsageError("--group has no --cursor: it counts all dead letters; use --limit or --all")
    shown = groups if everything else groups[:limit]
    if options.json:
        print_json_array(map(to_json, shown))
    else:
        print_table(_GROUP_COLUMNS, map(_group_row, shown))
    if len(shown) < len(groups):
        print(f"there are {len(groups) - len(shown):,} more groups: --limit, or --all", file=sys.stderr)


_GROUP_COLUMNS = (
    Column(name="count", is_right=True),
    Column(name="name", least=16),
    Column(name="first", rank=2),
    Column(name="last", rank=1),
    Column(name="example", is_right=True),
    Column(name="error", least=32),
)


def _group_row(group: FailureGroup) -> Sequence[object]:
    first, last = time_text(group.first_failed_at), time_text(group.last_failed_at)
    error = ": ".join(filter(None, (group.type, group.message)))
    return group.count, group.name, first, last, group.example_id, error


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


@dlq.add(
    "mpdispatch dlq replay 41 42\nmpdispatch dlq replay --name render --error 'HTTP 503'\nmpdispatch dlq replay --all",
    name="replay",
)
@ids_argument(complete_dead_letter, required=False)
@many_options
def replay(options: Options, ids: Sequence[int], **selection: Any) -> int:
    """Enqueue failed jobs again, as new jobs. One that was replayed before is not enqueued a second time.

    By their ids, or all that the options select. The app's hooks are told of new jobs if the app is known: by -A,
    MPDISPATCH_APP or the configuration file.
    """
    refuse_mixture(ids, **selection)
    letters = open_client_with_hooks(options).dead_letters
    if not ids:
        return many_again(options, letters.replay_all, "replayed", **selection)

    def message_of(job: Job, job_id: int) -> str:
        if not job.created:
            return f"job {job_id} was replayed before, as job {job.id} ({job.state})"
        return f"job {job_id} runs again as job {job.id}"

    return each_of(options, ids, letters.replay, message_of)


@dlq.add("mpdispatch dlq purge --older-than 30d\nmpdispatch dlq purge --queue bulk", name="purge")
@click.option("--older-than", metavar="AGE", type=AGE, help="Only those that failed longer ago (12h, 30d).")
@letter_filter_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(options: Options, yes: bool, **filters: Any) -> None:
    """Delete dead letters, replayed or not. Their jobs stay, as failed, for the time of `retention_failed`.

    Without an option, all of them: on a terminal it asks first.
    """
    letters = open_client(options).dead_letters
    if all(value is None for value in filters.values()) and not yes and sys.stdin.isatty():
        click.confirm("Delete all dead letters?", abort=True, err=True)
    deleted = letters.purge(**filters)
    print_answer({"purged": deleted}, f"purged: {deleted}", as_json=options.json)

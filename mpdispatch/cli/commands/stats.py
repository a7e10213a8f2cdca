"""`stats`: how many jobs there are, by state and queue; once, or again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from mpdispatch.cli.clients import open_client
from mpdispatch.cli.output import draw_table, print_json, print_line, print_table
from mpdispatch.cli.program import Options, command
from mpdispatch.cli.progress import bar, progress_text
from mpdispatch.cli.values import DURATION
from mpdispatch.clock import sleep
from mpdispatch.engine.client import JobClient
from mpdispatch.model import JobState
from mpdispatch.model.progress import JobProgress, progress_of

_STATES = [state.value for state in JobState]
_COLUMNS = ["queue", *_STATES]
_JOBS_SHOWN = 20
_ENDED = [state.value for state in JobState if state.is_terminal]


@command(
    "mpdispatch stats\nmpdispatch stats --json\nmpdispatch stats --watch\nmpdispatch stats --watch 10s --json"
)
@click.option(
    "--watch",
    "every_s",
    type=DURATION,
    is_flag=False,
    flag_value="2s",
    metavar="[SECONDS]",
    help="Repeat every SECONDS (2 without a number) until Ctrl-C; with --json one line each time.",
)
def stats(options: Options, every_s: float | None) -> None:
    """Count jobs by state and queue.

    A failed job that was replayed or retried does not count as failed. With --watch also how many ended per second since
    the last count, and how far running jobs are that report it.
    """
    client = open_client(options)
    if every_s is None:
        whole = client.stats()
        if options.json:
            print_json(whole)
        else:
            _print(whole)
        return
    try:
        _watch(options, client, max(every_s, 0.01))
    except KeyboardInterrupt:
        return  # Ctrl-C is the way to end it


def _watch(options: Options, client: JobClient, every_s: float) -> None:
    looks = _looks(client, every_s)
    if options.json:
        for whole in looks:
            print_json(whole, line=True)
    elif sys.stdout.isatty():
        encoding = _encoding()  # while the table is drawn, sys.stdout has none
        draw_table((_COLUMNS, _rows(whole), _below(whole, encoding)) for whole in looks)
    else:
        for whole in looks:
            _print(whole)
            print_line("")


def _looks(client: JobClient, every_s: float) -> Iterator[dict[str, Any]]:
    """The counts again and again, with `ended_per_s` since the ones before (None at first), and the `progress` of running
    jobs that report it."""
    before, before_s = None, 0.0
    due_s = time.monotonic()
    while True:
        whole = client.stats()
        now_s = time.monotonic()
        ended = sum(whole["jobs"][state] for state in _ENDED)
        # Pruning deletes ended jobs, and a replayed failure is none. A negative difference counts as none.
        rate = None if before is None else round(max(0, ended - before) / (now_s - before_s), 1)
        yield {**whole, "ended_per_s": rate, "progress": _progress(client)}
        before, before_s = ended, now_s
        due_s = max(due_s + every_s, now_s)
        sleep(due_s - now_s)


def _progress(client: JobClient) -> list[dict[str, Any]]:
    """Of the running jobs that report it, the oldest first."""
    now = datetime.now(UTC)
    running = client.list_jobs(state=JobState.RUNNING, limit=1000).items
    found = [(job, progress_of(job, now)) for job in reversed(running)]
    return [{"id": job.id, "name": job.name, **each._asdict()} for job, each in found if each is not None]


def _encoding() -> str:
    return "ascii" if sys.stdout is None else sys.stdout.encoding


def _below(whole: dict[str, Any], encoding: str) -> list[str]:
    """The lines below the table."""
    lines = []
    for facts in whole.get("progress", ())[:_JOBS_SHOWN]:
        progress = JobProgress(**{key: facts[key] for key in JobProgress._fields})
        drawn = "" if progress.share is None else f"{bar(progress.share, encoding=encoding)} "
        lines.append(f"{facts['id']} {facts['name']}  {drawn}{progress_text(progress)}")
    if (more := len(whole.get("progress", ())) - _JOBS_SHOWN) > 0:
        lines.append(f"{more:,} more jobs report their progress")
    return [*lines, _foot(whole)]


def _rows(whole: dict[str, Any]) -> list[list[Any]]:
    rows = [
        [f"{name} (paused)" if queue["paused"] else name, *(queue["jobs"][state] for state in _STATES)]
        for name, queue in whole["queues"].items()
    ]
    return [*rows, ["all", *(whole["jobs"][state] for state in _STATES)]]


def _foot(whole: dict[str, Any]) -> str:
    rate = whole.get("ended_per_s")
    ended = "" if rate is None else f"ended: {rate:g}/s   "
    return f"{ended}dead letters: {whole['dlq_count']}   supervisors: {whole['supervisors']}   store: {whole['store']}"


def _print(whole: dict[str, Any]) -> None:
    print_table(_COLUMNS, _rows(whole), right=_STATES)
    for line in _below(whole, _encoding()):
        print_line(line)

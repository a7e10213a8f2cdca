"""`stats`: how many jobs there are, by state and queue; once, or again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from mpdispatch.cli.clients import open_client
from mpdispatch.cli.output import draw_table, print_json, print_line, print_table
from mpdispatch.cli.program import Options, command
from mpdispatch.cli.values import DURATION
from mpdispatch.clock import sleep
from mpdispatch.engine.client import JobClient
from mpdispatch.model import JobState

_STATES = [state.value for state in JobState]
_COLUMNS = ["queue", *_STATES]
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

    With --watch also how many ended per second since the last count.
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
        draw_table((_COLUMNS, _rows(whole), _foot(whole)) for whole in looks)
    else:
        for whole in looks:
            _print(whole)
            print_line("")


def _looks(client: JobClient, every_s: float) -> Iterator[dict[str, Any]]:
    """The counts again and again, with `ended_per_s` since the ones before (None at first)."""
    before, before_s = None, 0.0
    due_s = time.monotonic()
    while True:
        whole = client.stats()
        now_s = time.monotonic()
        ended = sum(whole["jobs"][state] for state in _ENDED)
        # Pruning deletes ended jobs. Then the difference is negative, and counts as none.
        rate = None if before is None else round(max(0, ended - before) / (now_s - before_s), 1)
        yield {**whole, "ended_per_s": rate}
        before, before_s = ended, now_s
        due_s = max(due_s + every_s, now_s)
        sleep(due_s - now_s)


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
    print_line(_foot(whole))

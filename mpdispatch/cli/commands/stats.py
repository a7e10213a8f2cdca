"""`stats`: how many jobs there are, by state and queue."""

from __future__ import annotations

import click

from mpdispatch.cli.output import print_json, print_table, say
from mpdispatch.cli.places import open_existing
from mpdispatch.cli.program import Options, command
from mpdispatch.engine.overview import overview
from mpdispatch.model import JobState

__all__ = ["stats"]


@command("mpdispatch stats\nmpdispatch stats --json")
@click.pass_obj
def stats(options: Options) -> None:
    """Count jobs by state and queue."""
    whole = overview(open_existing(options))
    if options.json:
        print_json(whole)
        return
    states = [state.value for state in JobState]
    rows = [
        [f"{name} (paused)" if queue["paused"] else name, *(queue["jobs"][state] for state in states)]
        for name, queue in whole["queues"].items()
    ]
    rows.append(["all", *(whole["jobs"][state] for state in states)])
    print_table(["queue", *states], rows, right=states)
    say(f"dead letters: {whole['dlq_count']}   supervisors: {whole['supervisors']}   store: {whole['store']}")

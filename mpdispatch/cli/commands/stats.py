"""`stats`: how many jobs there are, by state and queue."""

from __future__ import annotations

import click

from mpdispatch.cli.output import print_json, print_table, say
from mpdispatch.cli.places import open_existing
from mpdispatch.cli.program import Options, command
from mpdispatch.model import JobState

__all__ = ["stats"]


@command("mpdispatch stats\nmpdispatch stats --json")
@click.pass_obj
def stats(options: Options) -> None:
    """Count jobs by state and queue."""
    store = open_existing(options)
    counts = store.counts()
    dead_letters = store.dead_letter_count()
    queues = store.queue_stats()
    supervisors = store.supervisors()
    if options.json:
        print_json(
            {
                "jobs": {state.value: counts[state] for state in JobState},
                "dlq_count": dead_letters,
                "queues": {q.name: {"paused": q.is_paused, "jobs": dict(q.jobs)} for q in queues},
                "supervisors": len(supervisors),
                "store": store.location,
            }
        )
        return
    states = [state.value for state in JobState]
    names = [f"{q.name} (paused)" if q.is_paused else q.name for q in queues]
    rows = [[name, *(q.jobs[state] for state in states)] for name, q in zip(names, queues, strict=True)]
    rows.append(["all", *(counts[state] for state in JobState)])
    print_table(["queue", *states], rows, right=states)
    say(f"dead letters: {dead_letters}   supervisors: {len(supervisors)}   store: {store.location}")

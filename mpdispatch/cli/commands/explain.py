"""`explain`: why a job is not running yet."""

from __future__ import annotations

import dataclasses

import click

from mpdispatch.cli.clients import open_client
from mpdispatch.cli.locate import Sourced, find_settings, load_app
from mpdispatch.cli.output import print_json, print_line
from mpdispatch.cli.parameters import complete_living, id_argument
from mpdispatch.cli.program import Options, command
from mpdispatch.config import QueueConfig


@command("mpdispatch explain 41\nmpdispatch explain 41 -A tasks:engine")
@id_argument(complete_living)
@click.pass_obj
def explain(options: Options, job_id: int) -> None:
    """Say why a job is not running yet: what holds it back, what weighs most first, and what to do about it.

    With an app (-A) its queues' limits count too.
    """
    job, reasons = open_client(options).explain(job_id, queue_configs=_queue_configs(options))
    if options.json:
        print_json({"id": job.id, "state": job.state.value, "reasons": [*map(dataclasses.asdict, reasons)]})
        return
    print_line(f"job {job.id} ({job.name}, queue {job.queue}) is {job.state}")
    for reason in reasons:
        print_line(f"- {reason}")


def _queue_configs(options: Options) -> list[QueueConfig]:
    """The limits of queues that are known without a supervisor: of the app, if one is named, and of the file."""
    settings = find_settings(options)
    found = {each.name: each for each in (settings.queue_configs if settings else ())}
    if options.app is not None:
        found |= {each.name: each for each in load_app(Sourced(options.app, "-A", True)).queue_configs}
    return list(found.values())

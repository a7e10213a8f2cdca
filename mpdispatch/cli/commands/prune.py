"""`prune`: delete jobs that ended long ago."""

from __future__ import annotations

import click

from mpdispatch.cli.clients import open_client
from mpdispatch.cli.output import print_answer
from mpdispatch.cli.program import Options, command
from mpdispatch.cli.values import AGE


@command("mpdispatch prune --older-than 168h\nmpdispatch prune --older-than 30m --store jobs.db")
@click.option("--older-than", metavar="AGE", type=AGE, required=True, help="How long ago it ended, e.g. 24h.")
@click.pass_obj
def prune(options: Options, older_than: float) -> None:
    """Delete completed and cancelled jobs that ended long ago, and failed ones whose dead letter was dealt with.

    Safe while supervisors work: a few hundred rows are deleted at a time. The setting `retention` does the same
    all the time.
    """
    total = open_client(options).prune(older_than)
    text = f"pruned {total} {'job' if total == 1 else 'jobs'}"
    print_answer({"pruned": total}, text, as_json=options.json)

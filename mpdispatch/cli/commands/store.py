"""`migrate`, `prune` and `token`: look after the store."""

from __future__ import annotations

import click

from mpdispatch.cli.clients import open_client
from mpdispatch.cli.locate import find_store
from mpdispatch.cli.output import print_answer
from mpdispatch.cli.program import Options, command
from mpdispatch.cli.values import AGE
from mpdispatch.host.http_token import HttpToken


@command("mpdispatch migrate --store jobs.db")
def migrate(options: Options) -> None:
    """Create the store or bring its schema up to date.

    Safe to run any number of times, also while others use the store.
    """
    store = find_store(options)
    before, after = store.migrate()
    if before == after:
        text = f"schema version {after}, nothing to do"
    elif before == 0:
        text = f"created with schema version {after}"
    else:
        text = f"schema version {before} is now {after}"
    facts = {"store": store.display, "from": before, "to": after}
    print_answer(facts, f"{store.display}: {text}", as_json=options.json)


@command("mpdispatch prune --older-than 168h\nmpdispatch prune --older-than 30m --store jobs.db")
@click.option("--older-than", metavar="AGE", type=AGE, required=True, help="How long ago it ended, e.g. 24h.")
def prune(options: Options, older_than: float) -> None:
    """Delete completed and cancelled jobs that ended long ago, and failed ones whose dead letter was replayed or purged.

    Safe while supervisors work: a few hundred rows are deleted at a time. The setting `retention` does the same
    all the time.
    """
    total = open_client(options).prune(older_than)
    text = f"pruned {total} {'job' if total == 1 else 'jobs'}"
    print_answer({"pruned": total}, text, as_json=options.json)


@command(
    """mpdispatch token --store jobs.db
    curl -H "Authorization: Bearer $(mpdispatch token)" localhost:8000/api/dispatch/v1/jobs"""
)
def token(options: Options) -> None:
    """Print the store's own HTTP token; made if the store is there and the token is not.

    A mounted API that was given neither a token nor a rule of its own asks for it. To have another, remove the file
    http-token in the folder beside the store and run this again: from then on the old one is refused.
    """
    store = open_client(options).store
    found = HttpToken(store).value()
    print_answer({"store": store.display, "token": found}, found, as_json=options.json)

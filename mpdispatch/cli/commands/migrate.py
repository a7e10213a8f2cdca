"""`migrate`: create the store, or bring its schema up to date."""

from __future__ import annotations

import click

from mpdispatch.cli.locate import find_store
from mpdispatch.cli.output import print_answer
from mpdispatch.cli.program import Options, command


@command("mpdispatch migrate --store jobs.db")
@click.pass_obj
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

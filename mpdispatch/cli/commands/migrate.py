"""`migrate`: create the store, or bring its schema up to date."""

from __future__ import annotations

import click

from mpdispatch.cli.locate import find_store
from mpdispatch.cli.output import print_json, print_line
from mpdispatch.cli.program import Options, command


@command("mpdispatch migrate --store jobs.db")
@click.pass_obj
def migrate(options: Options) -> None:
    """Create the store or bring its schema up to date.

    Safe to run any number of times, also while others use the store.
    """
    store = find_store(options)
    before, after = store.migrate()
    if options.json:
        print_json({"store": store.display, "from": before, "to": after})
    elif before == after:
        print_line(f"{store.display}: schema version {after}, nothing to do")
    elif before == 0:
        print_line(f"{store.display}: created with schema version {after}")
    else:
        print_line(f"{store.display}: schema version {before} is now {after}")

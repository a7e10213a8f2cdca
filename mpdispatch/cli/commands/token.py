"""`token`: the store's own HTTP token."""

from __future__ import annotations

import click

from mpdispatch.cli.locate import open_existing
from mpdispatch.cli.output import print_answer
from mpdispatch.cli.program import Options, command
from mpdispatch.host.http_token import HttpToken


@command(
    """mpdispatch token --store jobs.db
    curl -H "Authorization: Bearer $(mpdispatch token)" localhost:8000/api/dispatch/v1/jobs"""
)
@click.pass_obj
def token(options: Options) -> None:
    """Print the store's own HTTP token; made if the store is there and the token is not.

    A mounted API that was given neither a token nor a rule of its own asks for it. To have another, remove the file
    http-token in the folder beside the store and run this again: from then on the old one is refused.
    """
    store = open_existing(options)
    found = HttpToken(store).value()
    print_answer({"store": store.display, "token": found}, found, as_json=options.json)

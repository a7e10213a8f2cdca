"""`pause` and `resume`: whether supervisors claim from a queue."""

from __future__ import annotations

import click

from mpdispatch.cli.output import print_json, say
from mpdispatch.cli.places import open_existing
from mpdispatch.cli.program import Options, command
from mpdispatch.clock import SystemClock
from mpdispatch.policy.names import check_name

__all__ = ["pause", "resume"]


@command("mpdispatch pause bulk")
@click.argument("queue")
@click.pass_obj
def pause(options: Options, queue: str) -> None:
    """Stop claiming from QUEUE, on every supervisor of the store.

    Running jobs go on; the others wait until `mpdispatch resume`.
    """
    _set(options, queue, paused=True)


@command("mpdispatch resume bulk")
@click.argument("queue")
@click.pass_obj
def resume(options: Options, queue: str) -> None:
    """Claim from QUEUE again."""
    _set(options, queue, paused=False)


def _set(options: Options, queue: str, *, paused: bool) -> None:
    check_name("queue name", queue)
    store = open_existing(options)
    store.set_paused(queue, paused, now=SystemClock().now())
    if options.json:
        print_json({"queue": queue, "paused": paused})
    else:
        say(f"queue {queue} is {'paused' if paused else 'running'}")

"""The group `cron`, and what its commands share."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import click

from mpdispatch.cli.parameters import complete_cron
from mpdispatch.cli.program import command_group
from mpdispatch.engine.crons.values import Cron


@command_group(
    'mpdispatch cron add nightly "0 3 * * *" report days:=7 --tz Europe/Berlin\n'
    "mpdispatch cron list\n"
    "mpdispatch cron preview nightly",
    name="cron",
)
def cron() -> None:
    """Entries that put jobs into their queues at the times of a schedule, while a supervisor runs."""


name_argument = click.argument("name", shell_complete=complete_cron)
names_argument = click.argument(
    "names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_cron
)


def next_text(entry: Cron) -> str:
    """When it fires next, on its clocks."""
    if entry.is_orphan:
        return f"it is an orphan, for {entry.app} does not declare it any more"
    if entry.next_run_at is None:
        return "it has no next slot by the clock"
    return f"next at {entry.next_run_at.astimezone(ZoneInfo(entry.tz)).isoformat(sep=' ', timespec='seconds')}"

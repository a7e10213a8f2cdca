"""The options of every command that enqueues, and the new job they describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import click

from mpdispatch.cli.parameters import complete_job, complete_queue, given
from mpdispatch.cli.values import DURATION, EXPIRES, JOB_IDS, RFC3339
from mpdispatch.engine.new_job import new_job
from mpdispatch.engine.options import EnqueueKeywords, EnqueueOptions, meanings
from mpdispatch.model import COMMAND_JOB, NewJob, OnParentFailure


def help_texts(keywords: type) -> dict[str, str]:
    """What each keyword means, as the help of an option says it, without a full stop."""
    return {
        name: text[0].upper() + text[1:].partition("; None")[0] for name, text in meanings(keywords).items()
    }


create_option = click.option(
    "--create",
    is_flag=True,
    help="Create mpdispatch.db in this folder if no store is named and it is not there.",
)

program_options = given(
    click.option(
        "--cwd",
        metavar="FOLDER",
        type=click.Path(exists=True, file_okay=False),
        help="The folder to run CMD in, if not the current one.",
    ),
    click.option(
        "--env",
        "chosen",
        metavar="NAME[=VALUE]",
        multiple=True,
        help="A further environment variable for CMD; may be repeated.",
    ),
)
"""How a program runs; a command gets them as `cwd` and `chosen`."""

_MEANS = help_texts(EnqueueKeywords)

job_options = given(
    click.option(
        "--queue",
        metavar="QUEUE",
        help=f"{_MEANS['queue']}. Without it: that of its handler, if the app is known, else default.",
        shell_complete=complete_queue,
    ),
    click.option("--priority", type=int, help=f"{_MEANS['priority']}."),
    click.option("--delay", type=DURATION, help=f"{_MEANS['delay']}."),
    click.option("--run-at", type=RFC3339, help=f"{_MEANS['run_at']} (2026-05-01T08:00:00Z)."),
    click.option("--max-retries", type=int, help=f"{_MEANS['max_retries']}."),
    click.option("--timeout", type=DURATION, help=f"{_MEANS['timeout']}."),
    click.option("--expires", type=EXPIRES, help=f"{_MEANS['expires']}."),
    click.option(
        "--after",
        metavar="ID[,ID...]",
        type=JOB_IDS,
        help="The jobs that must have ended before it may run.",
        shell_complete=complete_job,
    ),
    click.option(
        "--on-parent-failure",
        type=click.Choice(get_args(OnParentFailure)),
        help=f"{_MEANS['on_parent_failure']}.",
    ),
    click.option("--idempotency-key", metavar="KEY", help=f"{_MEANS['idempotency_key']}."),
    create_option,
    click.option("--wait", is_flag=True, help="Wait until the job has ended; exit 1 if it did not complete."),
)
"""The options of a new job; a command gets them as `create`, `wait`, and `queue`, `priority`, `delay` …"""


def unchecked_job(name: str, payload: bytes, wished: Mapping[str, Any]) -> NewJob:
    """The job of a name whose handler is not known here. A command that fails is not retried unless that is wished.

    Raises UsageError: names every option whose value is not allowed.
    """
    options = EnqueueOptions.read({key: value for key, value in wished.items() if value is not None})
    plain = (
        NewJob(name=name, payload=b"", max_retries=0) if name == COMMAND_JOB else NewJob(name=name, payload=b"")
    )
    return new_job(plain, options, payload)

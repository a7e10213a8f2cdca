"""The options of every command that enqueues, and the new job they describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from mpdispatch.cli.parameters import complete_queue, given
from mpdispatch.cli.values import DURATION, RFC3339
from mpdispatch.engine.enqueueing import PlainDefaults, new_job
from mpdispatch.engine.options import EnqueueOptions
from mpdispatch.model import NewJob

job_options = given(
    click.option(
        "--queue",
        metavar="QUEUE",
        help="Which queue; else the handler's own, or without an app (-A): default.",
        shell_complete=complete_queue,
    ),
    click.option("--priority", type=int, help="Higher runs first."),
    click.option("--delay", type=DURATION, help="Run so much later (30s, 5m, 2h)."),
    click.option("--run-at", type=RFC3339, help="Run then (2026-05-01T08:00:00Z)."),
    click.option("--max-retries", type=int, help="How often to try again; 0: never twice."),
    click.option("--timeout", type=DURATION, help="How long one attempt may take."),
    click.option("--idempotency-key", metavar="KEY", help="Enqueue only if no job of this name has the key."),
)
"""The options of a new job; a command gets them as `queue`, `priority`, `delay` …"""

create_option = click.option(
    "--create", is_flag=True, help="Make mpdispatch.db here if nobody names a store and there is none."
)
"""The flag of a command that puts jobs into the store; it gets it as `create`."""


def unchecked_job(defaults: PlainDefaults, payload: bytes, wished: Mapping[str, Any]) -> NewJob:
    """The job of a name whose handler is not known here.

    Raises:
        UsageError: names every option whose value is not allowed.
    """
    options = EnqueueOptions.read({key: value for key, value in wished.items() if value is not None})
    return new_job(defaults, options, payload)

"""The options of every command that enqueues, and what they mean for a new job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
import msgspec

from mpdispatch.cli.completing import complete_queue
from mpdispatch.cli.values import DURATION, RFC3339
from mpdispatch.clock import Instant
from mpdispatch.engine.options import EnqueueOptions

__all__ = ["create_option", "job_options", "new_job_fields"]

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
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


create_option = click.option(
    "--create", is_flag=True, help="Make mpdispatch.db here if nobody names a store and there is none."
)
"""The flag of a command that puts jobs into the store; it gets it as `create`."""


def job_options(function: F) -> F:
    """Give a command the options of a new job; it gets them as `queue`, `priority`, `delay` …"""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def new_job_fields(wished: Mapping[str, Any], now: Instant) -> dict[str, Any]:
    """The fields of a NewJob that were wished for.

    Raises:
        UsageError: names every option whose value is not allowed.
    """
    options = EnqueueOptions.read({key: value for key, value in wished.items() if value is not None})
    fields = {name: value for name, value in msgspec.structs.asdict(options).items() if value is not None}
    if (delay_us := fields.pop("delay_us", None)) is not None:
        fields["run_at_us"] = now.wall_us + delay_us
    return {name: value for name, value in fields.items() if value is not msgspec.UNSET}

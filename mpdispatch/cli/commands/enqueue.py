"""`enqueue`: put jobs into the store. With an app, name and arguments are checked; without, kept as given."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from mpdispatch.cli.commands.jobs import ends_of
from mpdispatch.cli.output import print_json, say
from mpdispatch.cli.places import find_app, find_settings, find_store, load_app
from mpdispatch.cli.program import Options, command
from mpdispatch.cli.values import DURATION, RFC3339, arguments_of
from mpdispatch.clock import SECOND_US, Instant, SystemClock
from mpdispatch.config import Config
from mpdispatch.engine.options import EnqueueOptions
from mpdispatch.errors import Fault, PayloadError, UsageError
from mpdispatch.execution.safejson import Reader, encode, fault_of_encoding, lossy
from mpdispatch.model import NewJob
from mpdispatch.model.wire import job_to_json
from mpdispatch.policy.names import check_name
from mpdispatch.store.base import Store

if TYPE_CHECKING:
    from mpdispatch.engine import Engine

__all__ = ["enqueue"]

_MAX_COUNT = 1_000_000


@command(
    "mpdispatch enqueue render path=a.pdf dpi:=300 -A tasks:engine\n"
    'mpdispatch enqueue render --args \'{"path": "a.pdf"}\' --queue bulk --delay 5m\n'
    "mpdispatch enqueue render path=a.pdf --wait"
)
@click.argument("name")
@click.argument("pairs", metavar="[k=TEXT | k:=JSON]...", nargs=-1)
@click.option("--args", "whole", metavar="JSON", help="All arguments as a JSON object; pairs win over it.")
@click.option("--queue", metavar="QUEUE", help="Which queue, if not the handler's own.")
@click.option("--priority", type=int, help="Higher runs first.")
@click.option("--delay", type=DURATION, help="Run so much later (30s, 5m, 2h).")
@click.option("--run-at", type=RFC3339, help="Run then (2026-05-01T08:00:00Z).")
@click.option("--max-retries", type=int, help="How often to try again; 0: never twice.")
@click.option("--timeout", type=DURATION, help="How long one attempt may take.")
@click.option("--idempotency-key", metavar="KEY", help="Enqueue only if no job of this name has the key.")
@click.option("--count", type=click.IntRange(1, _MAX_COUNT), help="Enqueue it so many times.")
@click.option("--wait", is_flag=True, help="Wait until it has ended; exit 1 if it did not complete.")
@click.pass_obj
def enqueue(
    options: Options,
    /,
    name: str,
    pairs: Sequence[str],
    whole: str | None,
    count: int | None,
    wait: bool,
    **wishes: Any,
) -> int:
    """Put the job NAME into the store, and print its id.

    k=TEXT gives an argument as text, k:=JSON as a number, list, true ... With an app (-A) the name and the
    arguments are checked; without one they are kept as given.
    """
    wished = EnqueueOptions.read({key: value for key, value in wishes.items() if value is not None})
    if count is not None and wished.idempotency_key is not None:
        raise UsageError("--count and --idempotency-key exclude each other: there is one job per key")
    arguments = arguments_of(pairs, whole)
    app = find_app(options)
    now = SystemClock().now()
    if app is None:
        job = _as_given(options, name, arguments, _fields(wished, now))
        store = find_store(options)
    else:
        engine = load_app(app)
        job = _checked(engine, name, arguments, _fields(wished, now))
        # The app is here anyway: its supervisor looks into its own store, so that is where the job belongs.
        store = engine.store if options.store is None else find_store(options)
    store.check(create=True)
    ids, answer = _keep(store, job, count, now)
    store.wake()
    if not options.json:
        for job_id in ids:
            say(job_id)
    if not wait:
        if options.json:
            print_json(answer)
        return 0
    code, ended = ends_of(options, store, ids)
    if options.json:
        print_json(ended[0] if count is None else ended)
    return code


def _fields(wished: EnqueueOptions, now: Instant) -> dict[str, Any]:
    """The fields of a NewJob that were wished for."""
    fields = {name: value for name, value in msgspec.structs.asdict(wished).items() if value is not None}
    if (delay_us := fields.pop("delay_us", None)) is not None:
        fields["run_at_us"] = now.wall_us + delay_us
    return {name: value for name, value in fields.items() if value is not msgspec.UNSET}


def _keep(
    store: Store, job: NewJob, count: int | None, now: Instant
) -> tuple[Sequence[int], Mapping[str, Any]]:
    """The ids of the jobs now in the store, and what `--json` says of them."""
    if count is None:
        kept = store.enqueue(job, now=now)
        return [kept.id], job_to_json(kept)
    ids = store.enqueue_many(job, [job.payload] * count, now=now)
    return ids, {"batch_id": ids[0], "count": count, "ids": list(ids)}


def _checked(engine: Engine, name: str, arguments: Mapping[str, Any], wished: Mapping[str, Any]) -> NewJob:
    """The job as its handler wants it. Raises UnknownJobError, PayloadError."""
    definition = engine.registry.get(name)
    payload = definition.signature.encode((), arguments, max_bytes=engine.dispatcher.config.max_payload_bytes)
    timeout_us = definition.timeout_s and round(definition.timeout_s * SECOND_US)
    defaults = {
        "queue": definition.queue,
        "priority": definition.priority,
        "max_retries": definition.max_retries,
        "timeout_us": timeout_us,
    }
    return NewJob(name=name, payload=payload, **{**defaults, **wished})


def _as_given(options: Options, name: str, arguments: Mapping[str, Any], wished: Mapping[str, Any]) -> NewJob:
    """The job as it was typed: nobody here knows the handler. Raises PayloadError on what cannot be kept."""
    check_name("job name", name)
    settings = find_settings(options)
    config = Config.resolve({}, env=os.environ, file=settings.config if settings else None)
    try:
        payload = encode(arguments)
        faults = [fault for key, value in arguments.items() for fault in lossy(value, key, Reader.UNTYPED)]
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(name, [Fault("", f"its arguments: {fault_of_encoding(error)}")]) from error
    if len(payload) > config.max_payload_bytes:
        allowed = f"at most {config.max_payload_bytes:,} are allowed (max_payload_bytes)"
        faults.append(Fault("", f"its arguments are {len(payload):,} bytes of JSON, {allowed}"))
    if faults:
        raise PayloadError(name, faults)
    return NewJob(name=name, payload=payload, **wished)

"""`enqueue`: put jobs into the store. With an app, name and arguments are checked; without, kept as given."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import click
import msgspec

from mpdispatch.cli.clients import open_client_to_fill
from mpdispatch.cli.enqueued import print_enqueued
from mpdispatch.cli.job_options import job_options, unchecked_job
from mpdispatch.cli.locate import find_app, find_config, find_store, load_app, refuse_unshared
from mpdispatch.cli.parameters import complete_name
from mpdispatch.cli.program import Options, command
from mpdispatch.cli.values import arguments_of, arguments_of_pairs
from mpdispatch.engine.client import JobClient
from mpdispatch.engine.parents import jobs_at_once
from mpdispatch.errors import Fault, PayloadError, UsageError
from mpdispatch.handlers.names import check_job_name
from mpdispatch.handlers.safejson import payload_as_given
from mpdispatch.model import Enqueued, Job, NewBatch, NewJob
from mpdispatch.model.json import json_from_text

if TYPE_CHECKING:
    from mpdispatch.engine import Engine
    from mpdispatch.engine.options import EnqueueKeywords

_MAX_COUNT = 1_000_000
_LINES_SHOWN = 20


@command(
    "mpdispatch enqueue render path=a.pdf pages:=7 -A tasks:engine\n"
    'mpdispatch enqueue render --args \'{"path": "a.pdf"}\' --queue bulk --delay 5m\n'
    "mpdispatch enqueue render path=a.pdf --wait\n"
    "mpdispatch enqueue bind --after 41,42 --on-parent-failure run\n"
    "mpdispatch enqueue render --args - < pages.jsonl"
)
@click.argument("name", shell_complete=complete_name)
@click.argument("pairs", metavar="[k=TEXT | k:=JSON]...", nargs=-1)
@click.option(
    "--args",
    "whole",
    metavar="JSON",
    help="The arguments as a JSON object; k=TEXT and k:=JSON override it. -: one job for each line of stdin.",
)
@click.option("--count", type=click.IntRange(1, _MAX_COUNT), help="Enqueue this many jobs, all alike.")
@job_options
def enqueue(
    options: Options,
    name: str,
    pairs: Sequence[str],
    whole: str | None,
    count: int | None,
    create: bool,
    wait: bool,
    **wishes: Any,
) -> int:
    """Put the job NAME into the store, and print its id.

    k=TEXT gives an argument as text, k:=JSON as a number, list, true ...

    With an app (-A), its handler checks the arguments and sets the defaults of the options, and the app's hooks are
    told of the job. Without one, name and arguments are stored as given, in the queue "default" with 3 retries, and no
    hook is told.
    """
    wished = {key: value for key, value in wishes.items() if value is not None}
    if count is not None and "idempotency_key" in wished:
        raise UsageError("--count and --idempotency-key exclude each other: there is one job per key")
    lines: _Lines | None = None
    if whole == "-":
        if count is not None or "idempotency_key" in wished:
            raise UsageError("--args - enqueues a job for each line: no --count, no --idempotency-key")
        lines = _Lines(sys.stdin.buffer, pairs)
        items = list(lines.items.values())
    else:
        items = [arguments_of(pairs, whole)] * (count or 1)
    jobs = _Jobs(name=name, items=items, lines=lines, is_one=count is None and lines is None)
    app = find_app(options)
    client, made = (
        _as_given(options, jobs, wished, may_create=create)
        if app is None
        else _checked(options, load_app(app), jobs, wished)
    )
    return print_enqueued(options, client, made, wait=wait)


class _Jobs(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs to be enqueued."""

    name: str
    items: Sequence[Mapping[str, Any]]
    """The arguments of each."""
    lines: _Lines | None
    """The lines of stdin, if the arguments came from there."""
    is_one: bool
    """Whether the command asks for one job, and not for a number or list that happens to be one."""

    def read(self, reader: Callable[[Mapping[str, Any]], bytes]) -> list[bytes]:
        """The payload that `reader` makes for each job. Raises PayloadError, which names the lines of stdin."""
        return list(map(reader, self.items)) if self.lines is None else self.lines.read(self.name, reader)


class _Lines:
    """The arguments of one job from each line, which is a JSON object. Pairs override all lines. Blank lines are skipped.

    Lines are numbered from 1 and blank lines count, as in an editor.

    >>> _Lines([b'{"path": "a.pdf"}', b"", b'{"path": "b.pdf"}'], ["dpi:=300"]).items
    {1: {'path': 'a.pdf', 'dpi': 300}, 3: {'path': 'b.pdf', 'dpi': 300}}
    """

    def __init__(self, lines: Iterable[bytes], pairs: Sequence[str]) -> None:
        common = arguments_of_pairs(pairs)
        self.items: dict[int, dict[str, Any]] = {}
        self._faults: dict[int, list[str]] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                self.items[number] = _object(line) | common
            except UsageError as error:
                self._faults[number] = [str(error)]

    def read(self, job_name: str, reader: Callable[[Mapping[str, Any]], bytes]) -> list[bytes]:
        """The payloads that `reader` makes of the arguments of each line. `reader` may raise PayloadError.

        Raises PayloadError: names every line that is no JSON object or that `reader` refuses, up to 20 of them.
        """
        found, faults = [], dict(self._faults)
        for number, arguments in self.items.items():
            try:
                found.append(reader(arguments))
            except PayloadError as error:
                faults[number] = [str(fault) for fault in error.faults]
        if faults:
            raise PayloadError(job_name, _faults_by_line(faults))
        return found


def _object(line: bytes) -> dict[str, Any]:
    try:
        text = line.decode().rstrip()
    except UnicodeDecodeError as error:
        raise UsageError(f"no UTF-8: {error}") from error
    arguments = json_from_text(text)
    if not isinstance(arguments, dict):
        raise UsageError("must be a JSON object, such as '{\"dpi\": 300}'")
    return arguments


def _faults_by_line(faults: Mapping[int, Sequence[str]]) -> Iterator[Fault]:
    for number in sorted(faults)[:_LINES_SHOWN]:
        yield Fault(f"line {number}", "; ".join(faults[number]))
    if (more := len(faults) - _LINES_SHOWN) > 0:
        yield Fault("", f"and {more:,} more lines" if more > 1 else "and 1 more line")
    yield Fault("", "no job is enqueued")


_Stored: TypeAlias = tuple[JobClient, Job | Enqueued]
"""The client, and the job that was stored, or many."""


def _checked(options: Options, engine: Engine, jobs: _Jobs, wished: Mapping[str, Any]) -> _Stored:
    """Enqueue by the app's engine, into the app's own store unless --store names another: its supervisor polls that."""
    if options.store is not None:
        engine.use_store(find_store(options).location)
    refuse_unshared(engine.store)
    door = engine.options(**cast("EnqueueKeywords", wished))
    signature = engine.registry.get(jobs.name).signature
    max_bytes = engine.dispatcher.config.max_payload_bytes
    try:
        # All of them first, so that nothing is enqueued if one does not fit.
        jobs.read(lambda arguments: signature.encode((), arguments, max_bytes=max_bytes))
    except PayloadError as error:
        raise PayloadError(jobs.name, map(_as_typed, error.faults)) from error
    if jobs.is_one:
        return engine, door.enqueue(jobs.name, **jobs.items[0])
    batch = door.enqueue_many(jobs.name, jobs.items)
    return engine, Enqueued(batch.id, [*batch])


def _as_typed(fault: Fault) -> Fault:
    """The fault with a remedy for the command line, where k=5 is the text "5"."""
    if "got `str`" not in fault.message or not fault.key.isidentifier():
        return fault
    return Fault(fault.key, f"{fault.message}; {fault.key}=... is text, write {fault.key}:=... for JSON")


def _as_given(options: Options, jobs: _Jobs, wished: Mapping[str, Any], *, may_create: bool) -> _Stored:
    """Enqueue the arguments as typed, without a handler to check them."""
    config = find_config(options)
    check_job_name(jobs.name)
    payloads = jobs.read(lambda arguments: payload_as_given(jobs.name, arguments, config.max_payload_bytes))
    job = unchecked_job(jobs.name, payloads[0] if payloads else b"{}", wished)
    client = open_client_to_fill(options, may_create=may_create)
    return client, client.add_job(job) if jobs.is_one else _add_many(client, job, payloads)


def _add_many(client: JobClient, job: NewJob, payloads: Sequence[bytes]) -> Enqueued:
    at_once = jobs_at_once(job.after) if job.after else len(payloads)
    batch: NewBatch | int = NewBatch(name=job.name)
    ids = list[int]()
    for at in range(0, max(len(payloads), 1), max(at_once, 1)):
        is_last = at + at_once >= len(payloads)
        made = client.add_jobs(job, payloads[at : at + at_once], batch, closes=is_last)
        assert made.batch_id is not None  # a batch is named
        batch = made.batch_id
        ids += made.ids
    return Enqueued(made.batch_id, ids)

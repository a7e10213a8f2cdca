"""`batches` and `batch`: jobs that belong together."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from mpdispatch.cli import batch_texts as texts
from mpdispatch.cli.clients import open_client, open_client_with_hooks
from mpdispatch.cli.columns import Column
from mpdispatch.cli.job_texts import arguments_text
from mpdispatch.cli.output import complain, escape, print_json, print_line, print_pages, print_table, time_text
from mpdispatch.cli.parameters import complete_batch, complete_batch_name, paging_options
from mpdispatch.cli.program import Options, command
from mpdispatch.cli.progress import bar
from mpdispatch.cli.values import BATCH_ID
from mpdispatch.clock import sleep
from mpdispatch.engine.client import JobClient
from mpdispatch.errors import UsageError
from mpdispatch.model import BatchInfo, JobState
from mpdispatch.model.json import batch_to_json
from mpdispatch.policy.names import cut

if TYPE_CHECKING:
    from mpdispatch.engine.batches.batch import Batch

_COLUMNS = (
    Column("id", is_right=True),
    Column("name", least=12),
    Column("progress"),
    Column("jobs", least=20),
    Column("rate", is_right=True, rank=1),
    Column("left", is_right=True),
    Column("started", rank=2),
    Column("ended", rank=3),
)
_FAILED = (
    Column("failed", is_right=True),
    Column("name", least=12),
    Column("arguments", least=20, is_cut=True),
    Column("error", least=32),
)
_GROUPS = (Column("count", is_right=True), Column("example", is_right=True), Column("error", least=32))
_FAILED_SHOWN = 10
_LOOK_S = 0.2
"""How often a bar moves."""


@command("mpdispatch batches\nmpdispatch batches --name thumbnails --unended\nmpdispatch batches --all --json")
@click.option("--name", metavar="NAME", help="Only those of this name.", shell_complete=complete_batch_name)
@click.option("--ended/--unended", "ended", default=None, help="Only those that have ended, or have not.")
@paging_options
def batches(options: Options, name: str | None, ended: bool | None, **paging: Any) -> None:
    """List batches, newest first: how far each is, its jobs by state, how fast it goes and when it will have ended."""
    client = open_client(options)

    def pages(**page: Any) -> Any:
        return client.batches.list(name=name, ended=ended, **page)

    print_pages(pages, batch_to_json, _COLUMNS, _row, as_json=options.json, **paging)


def _row(batch: BatchInfo) -> Sequence[object]:
    times = time_text(batch.started_at), time_text(batch.ended_at)
    rate, left = texts.rate_text(batch), texts.eta_text(batch)
    return batch.id, batch.name, _progress(batch), texts.counts_text(batch), rate, left, *times


def _progress(batch: BatchInfo) -> str:
    """On a terminal with a bar, longer on a wide one."""
    share = texts.share_text(batch)
    if sys.stdout is None or not sys.stdout.isatty():
        return share
    width = max(5, min(20, (shutil.get_terminal_size().columns - 80) // 4))
    return f"{bar(batch.progress, width, encoding=sys.stdout.encoding)} {share:>5}"


@command(
    "mpdispatch batch 7\nmpdispatch batch 7 --watch\nmpdispatch batch 7 --retry-failed --watch\nmpdispatch batch 7 --cancel"
)
@click.argument("batch_id", metavar="ID", type=BATCH_ID, shell_complete=complete_batch)
@click.option("--watch", is_flag=True, help="Show a bar until it has ended; exit 1 if a job did not complete.")
@click.option("--cancel", is_flag=True, help="Cancel the jobs of it that have not ended, and close it.")
@click.option("--retry-failed", is_flag=True, help="Enqueue the failed jobs of it again, as new ones.")
@click.option("--close", is_flag=True, help="Let an open one take no more jobs, so that it can end.")
def batch(options: Options, batch_id: int, watch: bool, cancel: bool, retry_failed: bool, close: bool) -> int:
    """Show one batch: how far it is, its jobs by state, its callbacks, and which jobs of it failed and why.

    The app's hooks are told of jobs that are enqueued again if the app is known: by -A, MPDISPATCH_APP or the
    configuration file.
    """
    if cancel + retry_failed + close > 1:
        raise UsageError("--cancel, --retry-failed and --close: give one of them")
    client = open_client_with_hooks(options) if retry_failed else open_client(options)
    found = client.batches.get(batch_id)
    if cancel and found.ended_at is not None:
        complain(f"batch {batch_id} has ended; nothing of it is left to cancel")
        return 1
    said = _changed(found, cancel=cancel, retry_failed=retry_failed, close=close)
    if said is not None and not options.json:
        print_line(said)
    code = _watched(client, found) if watch else 0
    if options.json:
        print_json(batch_to_json(found.status()))
    elif said is None or watch:
        _print(client, found, found.status())
    return code


def _changed(batch: Batch, *, cancel: bool, retry_failed: bool, close: bool) -> str | None:
    """Do what was asked, and say so in a line; None: nothing was."""
    if cancel:
        info = batch.cancel()
        running = info.counts[JobState.RUNNING]
        asked = f"; {running:,} running {'is' if running == 1 else 'are'} asked to end" if running else ""
        return f"batch {batch.id} is cancelled: {texts.counts_text(info)}{asked}"
    if retry_failed:
        count = batch.retry_failed()
        which = "1 job that failed runs" if count == 1 else f"{count:,} jobs that failed run"
        return f"batch {batch.id}: {which} again" if count else f"batch {batch.id}: no job of it has failed"
    if close:
        was = "is" if batch.is_open else "was"
        return f"batch {batch.id} {was} closed: {texts.counts_text(batch.close())}"
    return None


def _watched(client: JobClient, batch: Batch) -> int:
    """Wait until it has ended, with a bar on a terminal. Gives the exit code."""
    info = batch.status()
    if info.ended_at is None:
        if info.is_open:
            complain(f"batch {batch.id} is open: it ends once somebody closes it (--close)")
        if not client.has_supervisor():
            complain("no supervisor is running; `mpdispatch supervise` starts one (waiting)")
    with _live_bar(info) as update:
        while info.ended_at is None:
            sleep(_LOOK_S)
            info = batch.status()
            update(info)
    return 1 if texts.has_losses(info) else 0


@contextmanager
def _live_bar(info: BatchInfo) -> Iterator[Callable[[BatchInfo], object]]:
    """Inside it a terminal shows how the batch stands, as of the last call of what this gives."""
    if info.ended_at is not None or sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.fields[name]}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, expand=True) as progress:
        task = progress.add_task(
            "", total=info.total, completed=info.done, name=escape(cut(info.name, 30)), note=""
        )

        def update(now: BatchInfo) -> None:
            failed, left = now.counts[JobState.FAILED], texts.eta_text(now)
            notes = [
                f"{failed:,} failed" if failed else "",
                texts.rate_text(now),
                f"{left} left" if left else "",
            ]
            progress.update(task, total=now.total, completed=now.done, note=" ".join(filter(None, notes)))

        update(info)
        yield update


def _print(client: JobClient, batch: Batch, info: BatchInfo) -> None:
    lines = list(texts.facts(info))
    width = max(len(key) for key, _ in lines)
    for key, value in lines:
        print_line(f"{key:<{width}}  {value}")
    if info.counts[JobState.FAILED]:
        _print_failed(client, batch, info.counts[JobState.FAILED])


def _print_failed(client: JobClient, batch: Batch, count: int) -> None:
    """The first failed members; of many, also how often each error came."""
    if count > _FAILED_SHOWN:
        click.echo()
        groups = client.dead_letters.groups(batch=batch.id)
        print_table(_GROUPS, ((each.count, each.example_id, f"{each.type}: {each.message}") for each in groups))
    click.echo()
    failed = list(islice(batch.jobs(JobState.FAILED), _FAILED_SHOWN))
    print_table(_FAILED, ((job.id, job.name, arguments_text(job), job.last_error) for job in failed))
    if (more := count - len(failed)) > 0:
        print_line(f"and {more:,} more: mpdispatch jobs --batch {batch.id} --state failed --all")

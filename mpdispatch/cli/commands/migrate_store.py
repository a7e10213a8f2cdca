"""`migrate-store`: moves all of a store to another one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from mpdispatch.cli.locate import Sourced, open_found
from mpdispatch.cli.output import complain, print_answer
from mpdispatch.cli.program import Options, command
from mpdispatch.cli.progress import bar
from mpdispatch.engine.moving import MoveProgress, abandon_move, move_store
from mpdispatch.errors import DispatchError
from mpdispatch.store.contract import Store

_REDRAW_S = 0.1


@command(
    "mpdispatch migrate-store jobs.db postgresql://app@db/jobs\n"
    "mpdispatch migrate-store --keep jobs.db /mnt/new/jobs.db\n"
    "mpdispatch migrate-store --abandon jobs.db postgresql://app@db/jobs"
)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--keep", is_flag=True, help="Leave FROM usable: TO is a copy, and both go on by themselves.")
@click.option("--abandon", is_flag=True, help="Give up a move that is not finished: FROM is usable again.")
def migrate_store(options: Options, source: str, target: str, keep: bool, abandon: bool) -> None:
    """Move all jobs of the store FROM, with their history, batches, cron entries and dead letters, to the store TO.

    Stop all supervisors of both first. TO is made if it is not there, and must be empty. Ids stay as they are. What has
    arrived is compared by counts and checksums; then FROM can only be read, and names TO to whoever enqueues there.

    If this was ended, even by a power cut, run it again: it goes on where it was. Until it is finished, nothing can be
    enqueued in FROM.
    """
    if options.store is not None:
        raise click.UsageError("name the two stores as FROM and TO; --store is not for this command")
    if keep and abandon:
        raise click.UsageError("--keep and --abandon: give one of them")
    here = open_found(Sourced(source, "FROM", True), options)
    there = open_found(Sourced(target, "TO", True), options)
    facts = {"from": here.display, "to": there.display}
    if abandon:
        abandon_move(here, there)
        text = (
            f"{here.display}: not moved, and usable again; {there.display} holds a part of it and is of no use"
        )
        print_answer({**facts, "moved": False}, text, as_json=options.json)
        return
    began = time.monotonic()
    with _told_if_frozen(here), _progress_line() as tell:
        moved = move_store(here, there, keep=keep, on_progress=tell)
    rows = sum(each.rows for each in moved.tables.values())
    jobs = moved.tables["jobs"].rows
    text = (
        f"{here.display}: {'copied' if moved.is_kept else 'moved'} to {there.display}: {jobs:,}"
        f" {'job' if jobs == 1 else 'jobs'}, {rows:,} rows in all; counts and checksums agree"
    )
    answer = {
        **facts,
        "moved": True,
        "kept": moved.is_kept,
        "resumed": moved.is_resumed,
        "jobs": jobs,
        "rows": {name: each.rows for name, each in moved.tables.items()},
        "checksums": {name: each.checksum for name, each in moved.tables.items()},
        "seconds": round(time.monotonic() - began, 3),
    }
    print_answer(answer, text, as_json=options.json)


@contextmanager
def _told_if_frozen(source: Store) -> Iterator[None]:
    """If the block does not come to its end, say that nothing can be enqueued in the source meanwhile."""
    try:
        yield
    except (DispatchError, KeyboardInterrupt):
        try:
            outgoing = None if source.transfer is None else source.transfer.standing().outgoing
        except DispatchError:
            outgoing = None  # the store itself is in trouble, and the first error says so
        if outgoing is not None and not outgoing.is_done:
            complain(
                f"{source.display}: nothing can be enqueued here until the move is finished (run it again) or given up"
                " (--abandon)"
            )
        raise


@contextmanager
def _progress_line() -> Iterator[Callable[[MoveProgress], None]]:
    """On a terminal, a bar on the last line of stderr; it is gone afterwards."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    drawn_at = 0.0

    def draw(progress: MoveProgress) -> None:
        nonlocal drawn_at
        now = time.monotonic()
        if now - drawn_at < _REDRAW_S and progress.done < progress.total:
            return
        drawn_at = now
        share = min(1.0, progress.done / max(1, progress.total))
        shown = bar(share, encoding=sys.stderr.encoding)
        print(
            f"\r{progress.doing} {shown} {progress.done:,} of {progress.total:,} rows: {progress.table}\x1b[K",
            end="",
            file=sys.stderr,
            flush=True,
        )

    try:
        yield draw
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)

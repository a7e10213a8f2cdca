"""`migrate`, `prune`, `backup` and `token`: look after the store."""

from __future__ import annotations

import signal
import sys
from typing import Any

import click

from mpdispatch.cli.clients import open_client
from mpdispatch.cli.locate import find_store
from mpdispatch.cli.output import print_answer, print_json
from mpdispatch.cli.program import Options, command
from mpdispatch.cli.values import AGE
from mpdispatch.host.http_token import HttpToken
from mpdispatch.model import JobState
from mpdispatch.store.values import Pruned

_MIB = 1 << 20
_ENDED = [state.value for state in JobState if state.is_terminal]


@command("mpdispatch migrate --store jobs.db\nmpdispatch migrate --store postgresql://db/jobs --print")
@click.option(
    "--print",
    "is_printed",
    is_flag=True,
    help="Print the SQL (of Redis: the functions) that makes a store, and do nothing.",
)
def migrate(options: Options, is_printed: bool) -> None:
    """Create the store or bring its schema up to date.

    Safe to run any number of times, also while others use the store.

    With --print, the comments at the top also say how a program in another language enqueues a job: with an INSERT, or
    with one call of a function in Redis.
    """
    store = find_store(options)
    if is_printed:
        sql = store.script()
        if options.json:
            print_json({"store": store.display, "sql": sql})
        else:
            print(sql)
        return
    before, after = store.migrate()
    if before == after:
        text = f"schema version {after}, nothing to do"
    elif before == 0:
        text = f"created with schema version {after}"
    else:
        text = f"schema version {before} is now {after}"
    facts = {"store": store.display, "from": before, "to": after}
    print_answer(facts, f"{store.display}: {text}", as_json=options.json)


@command("mpdispatch prune --older-than 168h\nmpdispatch prune --state cancelled --keep 1000 --dry-run")
@click.option("--older-than", metavar="AGE", type=AGE, help="Only what ended longer ago, e.g. 24h.")
@click.option("--state", metavar="STATE", type=click.Choice(_ENDED), help=f"Only these: {', '.join(_ENDED)}.")
@click.option(
    "--keep", metavar="N", type=click.IntRange(min=0), help="Not the N (of this state) that ended last."
)
@click.option("--dry-run", is_flag=True, help="Only say how many they are.")
@click.option(
    "--compact", is_flag=True, help="Then make the file as small as it can be; supervisors must be off."
)
def prune(
    options: Options,
    older_than: float | None,
    state: str | None,
    keep: int | None,
    dry_run: bool,
    compact: bool,
) -> None:
    """Delete ended jobs for which all of the first three options hold; at least one is needed.

    That is completed and cancelled jobs, and failed ones whose dead letter was replayed or purged: others stay. Safe
    while supervisors work, as some hundred rows are deleted at a time. The settings `retention`, `retention_failed` and
    `retention_limit` do the same all the time.

    The file becomes smaller by itself, unless an earlier version made it: then `--compact`, which may stand alone.
    """
    if dry_run and compact:
        raise click.UsageError("--dry-run changes nothing, so it cannot go with --compact")
    is_asked = older_than is not None or state is not None or keep is not None
    if not is_asked and not compact:
        raise click.UsageError("say which jobs: --older-than, --state or --keep")
    client, found = open_client(options), Pruned({}, 0)
    if is_asked:
        found = client.pruned(older_than, state=state, keep=keep, dry_run=dry_run)
    facts, text = _would_prune(found) if dry_run else _pruned(found)
    if found.open_failed:
        text += f"; {found.open_failed} failed stay until their dead letters are replayed or purged (mpdispatch dlq)"
    if compact:
        before, after = client.compact()
        facts |= {"bytes_before": before, "bytes": after}
        text += f"; the file has {after / _MIB:.1f} MiB, and had {before / _MIB:.1f}"
    print_answer(facts, text, as_json=options.json)


@command("mpdispatch backup /backup/jobs-$(date +%F).db")
@click.argument("destination", metavar="DEST", type=click.Path())
def backup(options: Options, destination: str) -> None:
    """Copy the store to the new file DEST, while supervisors and others use it. The copy is checked and on disk.

    To restore: end all that use the store, remove FILE-wal and FILE-shm beside it, and put the copy in the place of
    FILE. A supervisor that was forgotten then writes nothing to it. Jobs that were running run again.
    """
    # As Ctrl-C does, so that nothing is left of a copy that is not complete.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    client = open_client(options)
    made = client.backup(destination)
    facts = {"store": client.store.display, "backup": str(made.path), "bytes": made.bytes, "jobs": made.jobs}
    text = f"{made.path}: {made.jobs} jobs, {made.bytes / _MIB:.1f} MiB"
    print_answer(facts, text, as_json=options.json)


def _pruned(found: Pruned) -> tuple[dict[str, Any], str]:
    total = sum(found.by_state.values())
    return {"pruned": total}, f"pruned {_jobs(total)}"


def _would_prune(found: Pruned) -> tuple[dict[str, Any], str]:
    total = sum(found.by_state.values())
    by_state = {each: found.by_state.get(JobState(each), 0) for each in _ENDED}
    listed = ", ".join(f"{count} {state}" for state, count in by_state.items() if count)
    facts = {"would_prune": total, "by_state": by_state, "open_dead_letters": found.open_failed}
    return facts, f"would prune {_jobs(total)}" + (f" ({listed})" if total else "")


def _jobs(count: int) -> str:
    return f"{count} {'job' if count == 1 else 'jobs'}"


@command(
    """mpdispatch token --store jobs.db
    curl -H "Authorization: Bearer $(mpdispatch token)" localhost:8000/api/dispatch/v1/jobs"""
)
def token(options: Options) -> None:
    """Print the store's own HTTP token; made if the store is there and the token is not.

    A mounted API that was given neither a token nor a rule of its own asks for it. To have another, remove the file
    http-token in the folder beside the store and run this again: from then on the old one is refused.
    """
    store = open_client(options).store
    found = HttpToken(store).value()
    print_answer({"store": store.display, "token": found}, found, as_json=options.json)

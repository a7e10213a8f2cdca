"""`cron`: look at entries, change, fire and delete them. The commands that make entries are in `cron_add`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import click

from mpdispatch.cli.clients import open_client, open_client_with_hooks
from mpdispatch.cli.commands import cron_add  # noqa: F401 - its commands join the group
from mpdispatch.cli.commands.change import each_of
from mpdispatch.cli.commands.cron_group import cron, name_argument, names_argument, next_text
from mpdispatch.cli.locate import find_store
from mpdispatch.cli.output import (
    complain,
    print_answer,
    print_json,
    print_json_array,
    print_line,
    print_table,
    time_text,
)
from mpdispatch.cli.parameters import complete_cron
from mpdispatch.cli.program import Options
from mpdispatch.engine.client import JobClient
from mpdispatch.engine.crons.values import Cron, PastSlot
from mpdispatch.model import COMMAND_JOB, CronEntry
from mpdispatch.model.json import to_json
from mpdispatch.policy.names import cut


@cron.add("mpdispatch cron list\nmpdispatch cron list --check\nmpdispatch cron list --json", name="list")
@click.option("--check", is_flag=True, help="Exit 1 if an entry is late or cannot be read, for monitors.")
def list_(options: Options, check: bool) -> int:
    """List entries: their schedules, and when they fired last and fire next.

    An entry is late if it had no success within its time: --late-after, else one period.
    """
    found = open_client(options).crons.list()
    if options.json:
        print_json_array(map(to_json, found))
    else:
        columns = ["name", "schedule", "tz", "job", "last run", "last job", "next run", "state"]
        print_table(columns, map(_row, found), right=["last job"])
    if not check:
        return 0
    faults = {
        "late": [each.name for each in found if each.is_late],
        "cannot be read": [each.name for each in found if each.unreadable],
    }
    for fault, names in faults.items():
        if names:
            complain(f"{fault}: {', '.join(names)}")
    return 1 if any(faults.values()) else 0


def _row(entry: Cron) -> Sequence[object]:
    return (
        *(entry.name, entry.schedule, entry.tz, cut(_job_text(entry), 40)),
        *(time_text(entry.last_run_at), entry.last_job_id, time_text(entry.next_run_at), state_text(entry)),
    )


def _job_text(entry: Cron) -> str:
    if entry.job_name != COMMAND_JOB or not isinstance(entry.payload, dict):
        return entry.job_name
    argv = [str(each) for each in entry.payload.get("argv", ())]
    is_of_crontab = len(argv) == 3 and argv[1] == "-c"
    return argv[2] if is_of_crontab else shlex.join(argv)


def state_text(entry: Cron) -> str:
    """What holds for the entry, in words: `late, 2 open`."""
    words = {
        "unreadable": bool(entry.unreadable),
        "orphan": entry.is_orphan,
        "disabled": not entry.enabled and not entry.unreadable,
        "late": entry.is_late,
        f"{len(entry.open_jobs)} open": bool(entry.open_jobs),
    }
    return ", ".join(word for word, holds in words.items() if holds)


@cron.add("mpdispatch cron show nightly", name="show")
@name_argument
def show(options: Options, name: str) -> None:
    """Show one entry with all its options."""
    facts = to_json(open_client(options).crons.get(name))
    if options.json:
        print_json(facts)
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        print_line(f"{key:<{width}}  {'' if value is None else value}".rstrip())


@cron.add("mpdispatch cron remove nightly", name="remove")
@names_argument
def remove(options: Options, names: Sequence[str]) -> int:
    """Delete entries with their history; their jobs stay.

    One that code or a file declares comes back when a supervisor of it starts; disable it instead.
    """
    crons = open_client(options).crons

    def change(name: str) -> dict[str, object]:
        crons.delete(name)
        return {"name": name, "removed": True}

    return each_of(options, names, change, lambda _, name: f"cron entry {name} is removed")


@cron.add("mpdispatch cron enable nightly", name="enable")
@names_argument
def enable(options: Options, names: Sequence[str]) -> int:
    """Let disabled entries fire again. Slots that passed meanwhile are not caught up."""
    crons = open_client(options).crons

    return each_of(
        options, names, crons.enable, lambda made, name: f"cron entry {name} is enabled: {next_text(made)}"
    )


@cron.add("mpdispatch cron disable nightly", name="disable")
@names_argument
def disable(options: Options, names: Sequence[str]) -> int:
    """Let entries fire no more until they are enabled. Their jobs go on."""
    crons = open_client(options).crons
    return each_of(options, names, crons.disable, lambda _, name: f"cron entry {name} is disabled")


@cron.add("mpdispatch cron trigger nightly", name="trigger")
@names_argument
def trigger(options: Options, names: Sequence[str]) -> int:
    """Fire entries now, whatever their schedules say, and print the ids of the jobs.

    The app's hooks are told of the jobs if the app is known: by -A, MPDISPATCH_APP or the configuration file.
    """
    crons = open_client_with_hooks(options).crons
    return each_of(options, names, crons.trigger, lambda job, _: str(job.id))


@cron.add(
    "mpdispatch cron preview nightly\n"
    'mpdispatch cron preview "30 2 * * *" --tz Europe/Berlin --since 2026-03-28\n'
    "mpdispatch cron preview nightly --since 2026-11-27 -n 10",
    name="preview",
)
@click.argument("name", metavar="NAME|EXPR", shell_complete=complete_cron)
@click.option("-n", "count", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many slots.")
@click.option("--tz", metavar="ZONE", help="The zone of an EXPR. Without it: that of this machine.")
@click.option("--since", metavar="TIME", help="Begin there instead of now (2026-11-27, 2026-11-27T08:00).")
def preview(options: Options, name: str, count: int, tz: str | None, since: str | None) -> None:
    """Show the next slots of an entry or an expression, and what a change of clocks does to them.

    For an entry, with --since before now, it also says which slots a supervisor would catch up that was absent since.
    """
    crons = JobClient.of(find_store(options)).crons  # for an expression there need be no store
    found, of = crons.preview(name, count, tz=tz, since=since), crons.to_preview(name, tz)
    zone = of.spec.tz if isinstance(of, CronEntry) else of.tz
    if options.json:
        print_json_array(map(to_json, found))
        return
    clocks = ZoneInfo(zone)
    rows = [
        (
            each.slot.astimezone(clocks).strftime("%a %Y-%m-%d %H:%M:%S %Z"),
            time_text(each.run_at),
            each.note,
        )
        for each in found
    ]
    print_table([f"slot ({zone})", "run at", "note"], rows)
    if not found:
        print_line("no slot by the clock")


@cron.add(
    "mpdispatch cron backfill nightly 2026-11-01 2026-11-08\n"
    "mpdispatch cron backfill nightly 2026-11-01T03:00Z 2026-11-02T00:00Z",
    name="backfill",
)
@name_argument
@click.argument("start", metavar="FROM")
@click.argument("end", metavar="TO")
def backfill(options: Options, name: str, start: str, end: str) -> None:
    """Fire the slots of an entry from FROM up to, but without, TO. Those that have fired do not fire again.

    FROM and TO are dates or times; without an offset they are read on the entry's clocks.
    """
    made = open_client_with_hooks(options).crons.backfill(name, start, end)
    answer = {"name": name, "count": len(made), "ids": [job.id for job in made]}
    print_answer(answer, f"fired: {len(made)}", as_json=options.json)


@cron.add("mpdispatch cron history nightly --limit 20", name="history")
@name_argument
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many at most.")
def history(options: Options, name: str, limit: int) -> None:
    """Show what became of the last slots of an entry, the newest first: which fired, which were skipped and why."""
    found = open_client(options).crons.history(name, limit)
    if options.json:
        print_json_array(map(to_json, found))
        return
    print_table(["slot", "until", "at", "job", "skipped because"], map(_history_row, found), right=["job"])


def _history_row(slot: PastSlot) -> Sequence[object]:
    until = "" if slot.until == slot.slot else time_text(slot.until)
    return time_text(slot.slot), until, time_text(slot.at), slot.job_id, slot.reason

"""`cron`: entries that put jobs into their queues at the times of a schedule."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args
from zoneinfo import ZoneInfo

import click

from mpdispatch.cli.clients import open_client, open_client_to_fill, open_client_with_hooks
from mpdispatch.cli.job_options import unchecked_job
from mpdispatch.cli.locate import find_config, find_store
from mpdispatch.cli.output import (
    complain,
    print_answer,
    print_json,
    print_json_array,
    print_line,
    print_table,
    time_text,
)
from mpdispatch.cli.parameters import complete_cron, complete_queue, given
from mpdispatch.cli.program import Command, Options, command_group
from mpdispatch.cli.values import DURATION, arguments_of
from mpdispatch.engine.client import JobClient
from mpdispatch.engine.cron_options import split_options
from mpdispatch.engine.cron_values import Cron, CronSlot
from mpdispatch.engine.new_job import PlainDefaults
from mpdispatch.errors import CronNotFoundError, UsageError
from mpdispatch.execution.commands import environment_of, payload_of
from mpdispatch.execution.file_crons import why_not_there
from mpdispatch.model import COMMAND_JOB, CatchUp, CronEntry, NewJob, Overlap
from mpdispatch.model.json import to_json
from mpdispatch.policy.names import cut

T = TypeVar("T")

_COMMAND = "mpdispatch.command"
"""The key of a context under which the words after `--` are kept."""


class CommandWithProgram(Command):
    """A command that may end in `-- CMD [ARG]...`; its own options may stand anywhere before that."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            place = args.index("--")
            ctx.meta[_COMMAND] = args[place + 1 :]
            args = args[:place]
        return super().parse_args(ctx, args)


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

entry_options = given(
    click.option("--tz", metavar="ZONE", help="The zone whose clocks count. Without it: that of this machine."),
    click.option(
        "--catch-up",
        type=click.Choice(get_args(CatchUp)),
        help="Which slots fire that passed while no supervisor ran (latest).",
    ),
    click.option(
        "--catch-up-limit", metavar="N", type=int, help="The most of them that fire, with --catch-up all (100)."
    ),
    click.option(
        "--overlap",
        type=click.Choice(get_args(Overlap)),
        help="What a slot does while an earlier job of the entry has not ended (allow).",
    ),
    click.option("--jitter", type=DURATION, help="A job is due up to so much later than its slot."),
    click.option("--starts-at", metavar="TIME", help="Earlier slots are none (2026-12-01, 2026-12-01T08:00)."),
    click.option("--ends-at", metavar="TIME", help="Later slots are none."),
    click.option(
        "--late-after", type=DURATION, help="Late without a success for so long. Without it: for one period."
    ),
    click.option("--queue", metavar="QUEUE", help="The queue of its jobs.", shell_complete=complete_queue),
    click.option("--priority", type=int, help="Jobs with a higher number run first, within their queue."),
    click.option("--max-retries", type=int, help="How many times to retry after a failure; 0: never."),
    click.option("--timeout", type=DURATION, help="The longest that one attempt may take."),
    click.option(
        "--expires", type=DURATION, help="A job that is not started so long after its slot is cancelled."
    ),
)
"""The options of an entry and of its jobs; the command gets them as `tz`, `catch_up` …, None if not given."""


@cron.add(
    'mpdispatch cron add nightly "0 3 * * *" report days:=7 --tz Europe/Berlin\n'
    'mpdispatch cron add sweep "@every 30s" sweep --jitter 5s --overlap skip\n'
    'mpdispatch cron add backup "15 4 * * SUN" --catch-up all -- tar czf backup.tgz data',
    name="add",
    cls=CommandWithProgram,
)
@click.argument("name")
@click.argument("schedule", metavar="EXPR")
@click.argument("job", required=False)
@click.argument("pairs", metavar="[k=TEXT | k:=JSON]... | -- CMD [ARG]...", nargs=-1)
@click.option("--args", "whole", metavar="JSON", help="The arguments of its jobs as a JSON object.")
@click.option(
    "--cwd",
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False),
    help="The folder to run CMD in, if not the current one.",
)
@click.option(
    "--env",
    "chosen",
    metavar="NAME[=VALUE]",
    multiple=True,
    help="A further environment variable for CMD; may be repeated.",
)
@entry_options
@click.option("--create", is_flag=True, help="Create mpdispatch.db in this folder if no store is named.")
def add(
    options: Options,
    name: str,
    schedule: str,
    job: str | None,
    pairs: Sequence[str],
    whole: str | None,
    cwd: str | None,
    chosen: Sequence[str],
    create: bool,
    **wishes: Any,
) -> None:
    """Keep the entry NAME: at the times of EXPR it enqueues JOB, or runs the program CMD.

    EXPR is five fields, or six with the second first ("0 3 * * *"), @hourly, @daily, @weekly, @monthly, @yearly,
    "@every 90s", "@once 2026-12-01T03:00", @startup or @reboot.

    With an app (-A) its handler checks the arguments. CMD runs under a supervisor with --allow-commands, in this
    folder, without a shell, as with `mpdispatch run`.
    """
    argv: Sequence[str] | None = click.get_current_context().meta.get(_COMMAND)
    if (argv is None) == (job is None):
        raise UsageError("give either the name of a job, or -- and a program to run")
    if argv is None and (cwd is not None or chosen):
        raise UsageError("--cwd and --env are for a program after --")
    if argv is not None and whole is not None:
        raise UsageError("--args is for a job, not for a program")
    wished = {key: value for key, value in wishes.items() if value is not None}
    of_command = None if argv is None else _command_job(options, argv, cwd, chosen, wished)
    client = open_client_to_fill(options, may_create=create)
    if of_command is not None:
        made = client.crons.add_job(name, schedule, of_command, split_options(wished)[0])
    else:
        assert job is not None
        made = client.crons.add(name, schedule, job=job, args=arguments_of(pairs, whole), **wished)
    print_answer(to_json(made), f"cron entry {name}: {_next_text(made)}", as_json=options.json)


def _command_job(
    options: Options, argv: Sequence[str], cwd: str | None, chosen: Sequence[str], wished: Mapping[str, Any]
) -> NewJob:
    """The job of a command entry. Raises UsageError: the program is not there."""
    if not argv or not argv[0]:
        raise UsageError("there is no program after --")
    folder, env = os.path.abspath(cwd or os.curdir), environment_of(os.environ, chosen)
    if (missing := why_not_there(argv[0], cwd=folder, path=env.get("PATH"))) is not None:
        raise UsageError(f"command: {missing}")
    payload = payload_of(argv, cwd=folder, env=env, max_bytes=find_config(options).max_payload_bytes)
    return unchecked_job(PlainDefaults(name=COMMAND_JOB, max_retries=0), payload, split_options(wished)[1])


def _next_text(entry: Cron) -> str:
    if entry.next_run_at is None:
        return "it has no next slot by the clock"
    return f"next at {entry.next_run_at.astimezone(ZoneInfo(entry.tz)).isoformat(sep=' ', timespec='seconds')}"


@cron.add("mpdispatch cron list\nmpdispatch cron list --check\nmpdispatch cron list --json", name="list")
@click.option("--check", is_flag=True, help="Exit 1 if an entry is late, for monitors.")
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
    late = [each.name for each in found if each.is_late]
    if check and late:
        complain(f"late: {', '.join(late)}")
        return 1
    return 0


def _row(entry: Cron) -> Sequence[object]:
    return (
        *(entry.name, entry.schedule, entry.tz, cut(_job_text(entry), 40)),
        *(time_text(entry.last_run_at), entry.last_job_id, time_text(entry.next_run_at), state_text(entry)),
    )


def _job_text(entry: Cron) -> str:
    if entry.job_name == COMMAND_JOB and isinstance(entry.payload, dict):
        return shlex.join(map(str, entry.payload.get("argv", ())))
    return entry.job_name


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

    return _each_of(options, names, change, lambda _, name: f"cron entry {name} is removed")


@cron.add("mpdispatch cron enable nightly", name="enable")
@names_argument
def enable(options: Options, names: Sequence[str]) -> int:
    """Let disabled entries fire again. Slots that passed meanwhile are not caught up."""
    crons = open_client(options).crons

    def message(entry: Cron, name: str) -> str:
        return f"cron entry {name} is enabled: {_next_text(entry)}"

    return _each_of(options, names, crons.enable, message)


@cron.add("mpdispatch cron disable nightly", name="disable")
@names_argument
def disable(options: Options, names: Sequence[str]) -> int:
    """Let entries fire no more until they are enabled. Their jobs go on."""
    crons = open_client(options).crons
    return _each_of(options, names, crons.disable, lambda _, name: f"cron entry {name} is disabled")


@cron.add("mpdispatch cron trigger nightly", name="trigger")
@names_argument
def trigger(options: Options, names: Sequence[str]) -> int:
    """Fire entries now, whatever their schedules say, and print the ids of the jobs.

    The app's hooks are told of the jobs if the app is known: by -A, MPDISPATCH_APP or the configuration file.
    """
    crons = open_client_with_hooks(options).crons
    return _each_of(options, names, crons.trigger, lambda job, _: str(job.id))


def _each_of(
    options: Options,
    names: Sequence[str],
    change: Callable[[str], T],
    message_of: Callable[[T, str], str],
) -> int:
    """Change one entry after the other. A name that there is not does not stop the others."""
    code, changed = 0, []
    for name in names:
        try:
            result = change(name)
        except CronNotFoundError as error:
            complain(str(error))
            code = error.exit_code
            continue
        changed.append(to_json(result))
        if not options.json:
            print_line(message_of(result, name))
    if options.json:
        print_json(changed)
    return code


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


def _history_row(slot: CronSlot) -> Sequence[object]:
    until = "" if slot.until == slot.slot else time_text(slot.until)
    return time_text(slot.slot), until, time_text(slot.at), slot.job_id, slot.reason

"""`cron add` and `cron import`: make entries."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import click
import msgspec

from mpdispatch.cli.clients import open_client_to_fill
from mpdispatch.cli.commands.cron_group import cron, next_text
from mpdispatch.cli.job_options import create_option, help_texts, program_options, unchecked_job
from mpdispatch.cli.locate import find_config
from mpdispatch.cli.output import complain, print_answer, print_json, print_table
from mpdispatch.cli.parameters import complete_queue, given
from mpdispatch.cli.program import Command as CliCommand
from mpdispatch.cli.program import Options
from mpdispatch.cli.values import DURATION, arguments_of
from mpdispatch.engine.crons.keywords import CronAndJobKeywords
from mpdispatch.engine.crons.options import checked_spec, split_options
from mpdispatch.engine.crons.values import Cron
from mpdispatch.errors import UsageError
from mpdispatch.execution.commands import environment_of, payload_of, why_not_there
from mpdispatch.model import COMMAND_JOB, CatchUp, Command, CronSpec, NewJob, Overlap
from mpdispatch.model.json import to_json
from mpdispatch.policy.crontab import CrontabEntry, CrontabProblem, read_crontab
from mpdispatch.policy.names import cut

_COMMAND = "mpdispatch.command"
"""The key of a context under which the words after `--` are kept."""


class CommandWithProgram(CliCommand):
    """A command that may end in `-- CMD [ARG]...`; its own options may stand anywhere before that."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            place = args.index("--")
            ctx.meta[_COMMAND] = args[place + 1 :]
            args = args[:place]
        return super().parse_args(ctx, args)


_MEANS = help_texts(CronAndJobKeywords)

entry_options = given(
    click.option("--tz", metavar="ZONE", help=f"{_MEANS['tz']}."),
    click.option("--catch-up", type=click.Choice(get_args(CatchUp)), help=f"{_MEANS['catch_up']}."),
    click.option("--catch-up-limit", metavar="N", type=int, help=f"{_MEANS['catch_up_limit']}."),
    click.option("--overlap", type=click.Choice(get_args(Overlap)), help=f"{_MEANS['overlap']}."),
    click.option("--jitter", type=DURATION, help=f"{_MEANS['jitter']}."),
    click.option("--starts-at", metavar="TIME", help=f"{_MEANS['starts_at']}."),
    click.option("--ends-at", metavar="TIME", help=f"{_MEANS['ends_at']}."),
    click.option("--late-after", type=DURATION, help=f"{_MEANS['late_after']}."),
    click.option("--queue", metavar="QUEUE", help=f"{_MEANS['queue']}.", shell_complete=complete_queue),
    click.option("--priority", type=int, help=f"{_MEANS['priority']}."),
    click.option("--max-retries", type=int, help=f"{_MEANS['max_retries']}."),
    click.option("--timeout", type=DURATION, help=f"{_MEANS['timeout']}."),
    click.option("--expires", type=DURATION, help=f"{_MEANS['expires']}."),
    create_option,
)
"""The options of an entry and of its jobs; the command gets them as `tz`, `catch_up` …, None if not given, and `create`."""


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
@program_options
@entry_options
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
    print_answer(to_json(made), f"cron entry {name}: {next_text(made)}", as_json=options.json)


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
    return unchecked_job(COMMAND_JOB, payload, split_options(wished)[1])


# ---------------------------------------------------------------- import


@cron.add(
    "crontab -l | mpdispatch cron import - --dry-run\n"
    "mpdispatch cron import /etc/crontab --system --prefix etc.\n"
    "mpdispatch cron import crontab.txt --catch-up skip --overlap skip",
    name="import",
)
@click.argument("file", metavar="FILE|-")
@click.option(
    "--system", is_flag=True, help="It has a column for the user, as /etc/crontab and /etc/cron.d have."
)
@click.option("--dry-run", is_flag=True, help="Add nothing; show what would be added.")
@click.option("--prefix", metavar="TEXT", default="", help="Begin the names of the entries with this.")
@click.option("--skip-broken", is_flag=True, help="Add the other lines if some cannot be read.")
@entry_options
def import_(
    options: Options,
    file: str,
    system: bool,
    dry_run: bool,
    prefix: str,
    skip_broken: bool,
    create: bool,
    **wishes: Any,
) -> int:
    """Add an entry for each line of a crontab; - reads stdin. It says what cannot be carried over, and why.

    Commands run as under cron: by the SHELL of the crontab (/bin/sh), in HOME, with its settings and a PATH of
    /usr/bin:/bin, under a supervisor with --allow-commands. Of a crontab with users only your own lines are taken.
    CRON_TZ counts; --tz is for lines without it. The other options are those of every entry.

    Nothing is added if a line cannot be read, or if a name is taken.
    """
    wished = {key: value for key, value in wishes.items() if value is not None}
    me = pwd.getpwuid(os.getuid())
    found = read_crontab(_text_of(file), is_system=system, user=me.pw_name if system else None)
    specs, more = _specs_of(options, found.entries, me, prefix, wished)
    problems = sorted([*found.problems, *more], key=lambda each: each.line)
    broken = sum(each.kind == "broken" for each in problems)
    is_refused = broken > 0 and not skip_broken
    made: Sequence[Cron] = ()
    if not dry_run and not is_refused and specs:
        made = open_client_to_fill(options, may_create=create).crons.add_all(specs)
    _print_imported(options, specs, made, problems, is_dry=dry_run)
    if is_refused:
        lines = "1 line" if broken == 1 else f"{broken} lines"
        complain(f"nothing is added, because {lines} cannot be read; --skip-broken adds the others")
        return UsageError.exit_code
    return 0


def _text_of(file: str) -> str:
    """Raises UsageError."""
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: no UTF-8: {error}") from error


def _specs_of(
    options: Options,
    lines: Sequence[CrontabEntry],
    me: pwd.struct_passwd,
    prefix: str,
    wished: Mapping[str, Any],
) -> tuple[list[CronSpec], list[CrontabProblem]]:
    """The entries that these lines make, and the lines that make none. Raises UsageError: an option is not allowed."""
    specs, problems = list[CronSpec](), list[CrontabProblem]()
    of_entries, of_jobs = split_options(wished)
    max_bytes = find_config(options).max_payload_bytes
    for line in lines:
        job = _job_of_line(line, me, of_jobs, max_bytes)
        if isinstance(job, str):
            problems.append(CrontabProblem(line.line, line.command, job, "broken"))
            continue
        tz = {} if line.tz is None else {"tz": line.tz}
        specs.append(checked_spec(prefix + line.name, line.schedule, job, of_entries | tz))
    return specs, problems


def _job_of_line(
    line: CrontabEntry, me: pwd.struct_passwd, of_jobs: Mapping[str, Any], max_bytes: int
) -> NewJob | str:
    """The job of a line, or why its command cannot be started."""
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": me.pw_dir,
        "LOGNAME": me.pw_name,
        "USER": me.pw_name,
        **line.env,
        "SHELL": line.shell,
    }
    cwd = env["HOME"]
    if (missing := why_not_there(line.shell, cwd=cwd, path=env["PATH"])) is not None:
        return missing
    payload = payload_of(line.argv, cwd=cwd, env=env, max_bytes=max_bytes)
    return unchecked_job(COMMAND_JOB, payload, of_jobs)


def _print_imported(
    options: Options,
    specs: Sequence[CronSpec],
    made: Sequence[Cron],
    problems: Sequence[CrontabProblem],
    *,
    is_dry: bool,
) -> None:
    if options.json:
        found = [
            {"name": each.name, "schedule": each.schedule, "tz": each.tz, "argv": _argv(each)} for each in specs
        ]
        facts = [each._asdict() for each in problems]
        print_json({"found": found, "added": [to_json(each) for each in made], "problems": facts})
        return
    for each in problems:
        complain(f"line {each.line} {_KINDS[each.kind]}: {each.reason}: {each.text}")
    if made or is_dry:
        columns = ["would add" if is_dry else "added", "schedule", "tz", "command"]
        rows = [(each.name, each.schedule, each.tz, cut(_argv(each)[-1], 60)) for each in specs]
        print_table(columns, rows)


_KINDS = {"broken": "cannot be read", "left_out": "is left out", "changed": "is not carried over"}


def _argv(spec: CronSpec) -> list[str]:
    return msgspec.json.decode(spec.job.payload, type=Command).argv

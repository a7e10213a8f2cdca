"""The table of commands and the options that all of them share. Imports no command, to keep `--help` quick."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click
from click.core import ParameterSource

from mpdispatch.version import __version__


class Options:
    """Values of the shared options, given before or after the command. The later one wins."""

    __slots__ = ("app", "config", "json", "store", "verbose")

    def __init__(
        self,
        store: str | None = None,
        config: str | None = None,
        app: str | None = None,
        json: bool = False,
        verbose: bool = False,
    ) -> None:
        self.store, self.config, self.app = store, config, app
        self.json, self.verbose = json, verbose


COMMANDS: Mapping[str, tuple[str, str]] = {
    "supervise": ("supervise:supervise_command", "Run the supervisor: claim jobs and run them."),
    "enqueue": ("enqueue:enqueue", "Put a job into the store."),
    "run": ("run:run", "Put a program into the store, as a job."),
    "map": ("map:map_command", "Run a program once per input, and print what it writes."),
    "jobs": ("jobs:jobs", "List jobs, newest first."),
    "show": ("jobs:show", "Show one job and its attempts."),
    "logs": ("logs:logs", "Print what a job wrote."),
    "explain": ("jobs:explain", "Say why a job is not running, or a cron entry did not fire."),
    "wait": ("jobs:wait", "Wait until jobs have ended."),
    "cancel": ("change:cancel", "Cancel jobs, running ones too."),
    "retry": ("change:retry", "Run waiting jobs now, or failed and cancelled ones again."),
    "batches": ("batches:batches", "List batches, newest first."),
    "batch": ("batches:batch", "Show or watch a batch; cancel, close or retry it."),
    "cron": ("cron:cron", "Put jobs into their queues at the times of a schedule."),
    "queues": ("queues:queues", "List queues."),
    "pause": ("queues:pause", "Stop claiming from a queue."),
    "resume": ("queues:resume", "Claim from a paused queue again."),
    "dlq": ("dlq:dlq", "List, show, replay or purge dead letters."),
    "workers": ("queues:workers", "Show supervisors and their workers."),
    "stats": ("stats:stats", "Count jobs by state and queue."),
    "prune": ("store:prune", "Delete jobs that ended long ago."),
    "backup": ("store:backup", "Copy the store, while it is in use."),
    "config": ("config:config", "Check the configuration: every setting and its source."),
    "migrate": ("store:migrate", "Create the store or bring its schema up to date."),
    "migrate-store": ("migrate_store:migrate_store", "Move all of a store to another one, of any kind."),
    "doctor": ("doctor:doctor", "Examine the store and this machine, with remedies."),
    "token": ("store:token", "Print the store's own HTTP token."),
    "completion": ("completion:completion", "Print the completion script of a shell."),
}
"""By name: `module:attribute` below `mpdispatch.cli.commands`, and the line in the list of commands."""

COMPLETE_VARIABLE = "_MPDISPATCH_COMPLETE"
"""A shell sets this variable to ask for completions."""


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    assert param.name is not None
    if ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE:
        setattr(ctx.ensure_object(Options), param.name, value)


def _shared_options(*, speaks_json: bool = True) -> list[click.Parameter]:
    def option(*names: str, **settings: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=_remember, **settings)

    return [
        option("--store", metavar="STORE", help="Path or URL of the store (MPDISPATCH_STORE)."),
        option("--config", metavar="FILE", help="YAML configuration file (MPDISPATCH_CONFIG)."),
        option(
            "-A",
            "--app",
            metavar="APP",
            help="Your engine, or a function that makes it, as module:attribute (MPDISPATCH_APP).",
        ),
        option("--json", is_flag=True, hidden=not speaks_json, help="Print JSON, for programs."),
        option("-v", "--verbose", is_flag=True, help="Log in detail, to stderr."),
    ]


class Command(click.Command):
    """A command with the shared options and with examples below its help."""

    def __init__(self, *args: Any, examples: str, speaks_json: bool = True, **settings: Any) -> None:
        """`speaks_json`: whether its help shows `--json`."""
        super().__init__(*args, **settings)
        self.examples = examples
        self.params.extend(_shared_options(speaks_json=speaks_json))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for line in self.examples.strip().splitlines():
                formatter.write(f"{'':>{formatter.current_indent}}{line.strip()}\n")


class CommandGroup(Command, click.Group):
    """A command of commands, such as `dlq`: `@group.add(examples)` adds one."""

    def add(self, examples: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
        """Make a function a command of this group, as `command` does."""
        kind = settings.pop("cls", Command)
        return lambda function: self.command(cls=kind, examples=examples, **settings)(click.pass_obj(function))


@contextmanager
def without_gc() -> Iterator[None]:
    """Inside it, no garbage is collected: an import makes many objects and no garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Program(click.Group):
    """The `mpdispatch` command: finds the command in the table, and imports only that."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        with without_gc():
            command = getattr(importlib.import_module(f"mpdispatch.cli.commands.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not ctx.resilient_parsing and not args[0].startswith("-"):
            raise click.exceptions.NoSuchCommand(args[0], possibilities=COMMANDS, ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # From the table, because the commands themselves are not imported.
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def command(examples: str, **settings: Any) -> Callable[[Callable[..., Any]], Command]:
    """Make a function a `Command`: it gets the `Options` first. Its docstring is the help, with `examples` below it."""
    return lambda function: click.command(cls=Command, examples=examples, **settings)(click.pass_obj(function))


def command_group(examples: str, **settings: Any) -> Callable[[Callable[..., Any]], CommandGroup]:
    """Make a function (its docstring is the help) a group of commands."""
    return click.group(cls=CommandGroup, examples=examples, **settings)


program = Program(
    "mpdispatch",
    help="Durable background jobs for one machine.\n\n`mpdispatch COMMAND --help` explains a command, with examples.",
    params=_shared_options(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
click.version_option(__version__, message="%(prog)s %(version)s", help="Show the version.")(program)

"""`map`: runs a program once per input, as durable jobs under a supervisor of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from mpdispatch.cli.map.halt import Halt
from mpdispatch.cli.map.inputs import combined, read_lists, refuse_own_list, sorted_words
from mpdispatch.cli.map.request import Commands, Wishes
from mpdispatch.cli.map.template import Template
from mpdispatch.cli.output import keep_stdout
from mpdispatch.cli.program import Options, command, without_gc
from mpdispatch.cli.values import DURATION
from mpdispatch.cpus import usable_cpus
from mpdispatch.errors import UsageError
from mpdispatch.pool.exec import launch_early


@command(
    "mpdispatch map 'convert {} {.}.png' ::: *.jpg\n"
    "find . -name '*.log' -print0 | mpdispatch map -j 8 'gzip -9 {}' -0\n"
    "mpdispatch map --joblog runs.tsv --resume 'train --seed {1} --rate {2}' ::: 1 2 3 ::: 0.1 0.01",
    name="map",
    speaks_json=False,
    context_settings={"allow_interspersed_args": False},
)
@click.argument(
    "words", metavar="TEMPLATE... [::: INPUT... | -]", nargs=-1, required=True, type=click.UNPROCESSED
)
@click.option(
    "-j",
    "--jobs",
    "slots",
    metavar="N",
    type=click.IntRange(1, 10_000),
    help="Most jobs at once [usable CPUs].",
)
@click.option(
    "-a",
    "--arg-file",
    "files",
    metavar="FILE",
    multiple=True,
    help="Take lines of this file as inputs; - is stdin.",
)
@click.option(
    "-0", "--null", "by_nul", is_flag=True, help="Inputs in files and stdin end with a NUL, not with a newline."
)
@click.option(
    "--retries",
    "max_retries",
    metavar="N",
    type=click.IntRange(0, 1_000_000),
    default=0,
    help="Run a failed job again, up to N times [0].",
)
@click.option("--timeout", type=DURATION, help="Seconds that one run of a job may take.")
@click.option(
    "--keep-order/--unordered",
    "keeps_order",
    default=True,
    help="Print outputs in the order of the inputs [default], or as jobs end.",
)
@click.option(
    "--joblog",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Write a line per job, as GNU parallel does.",
)
@click.option(
    "--halt",
    metavar="WHEN",
    help="End early: now or soon, then fail=N, success=N (exits with 0), done=N or a share: soon,fail=10%.",
)
@click.option(
    "--resume", is_flag=True, help="Go on with the last map of this template and these inputs, where it ended."
)
@click.option("--resume-failed", is_flag=True, help="As --resume, and run failed jobs again.")
@click.option("--dry-run", is_flag=True, help="Print the commands, quoted, and run nothing.")
@click.option("--bar/--no-bar", default=None, help="Show progress, rate and ETA on stderr [on a terminal].")
def map_command(
    options: Options,
    words: Sequence[str],
    files: Sequence[str],
    by_nul: bool,
    dry_run: bool,
    **wished: Any,
) -> int:
    """Run a command once for each input, several at a time, and print what they write.

    In TEMPLATE {} stands for the input, {.} for it without its extension, {/} for its base name, {//} for its folder,
    {/.} for its base name without extension, and {#} for the number of the job. Without any of these the input is the
    last argument. A single TEMPLATE is split into words as a shell does it; no shell runs it, so write sh -c '...'
    for pipes. Inputs stand after :::, in files (::::, -a), or are lines of stdin. Several lists: all combinations,
    {1} {2} ...

    Output is printed whole, in the order of the inputs, as it becomes ready; stderr with the input before each line.
    Exits with 1, and a table of the failed jobs, if any failed.

    Jobs outlive this command: after Ctrl-C, a kill or a reboot, the same command with --resume goes on. Without a
    store named, there is one for each folder in $XDG_STATE_HOME (~/.local/state).
    """
    if options.json:
        raise UsageError("--json: map prints what the programs write; --joblog writes a table for programs")
    wishes = _wishes(**wished)
    commands = _commands(words, files, by_nul=by_nul, joblog=wishes.joblog)
    if dry_run:
        if sys.stdout is not None:  # it is open
            lines = (os.fsencode(commands.line_of(position)) for position in range(len(commands.inputs)))
            sys.stdout.buffer.writelines(line + b"\n" for line in lines)
        return 0
    if not commands.inputs:
        return 0
    keep_stdout()  # or workers and programs would hold it open
    # While it gets ready, this process imports the rest: together they take most of the time of a short map.
    zygote = launch_early()
    with without_gc():
        from mpdispatch.cli.map.session import run_map
    return run_map(options, commands, wishes, zygote)


def _wishes(
    *,
    slots: int | None,
    max_retries: int,
    timeout: float | None,
    keeps_order: bool,
    joblog: str | None,
    halt: str | None,
    resume: bool,
    resume_failed: bool,
    bar: bool | None,
) -> Wishes:
    if timeout is not None and timeout <= 0:
        raise UsageError("--timeout: must be more than 0")
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    return Wishes(
        slots=slots or usable_cpus(),
        max_retries=max_retries,
        timeout_s=timeout,
        joblog=joblog,
        halt=None if halt is None else Halt.parse(halt),
        keeps_order=keeps_order,
        shows_bar=is_terminal if bar is None else bar,
        resumes=resume or resume_failed,
        resumes_failed=resume_failed,
    )


def _commands(words: Sequence[str], files: Sequence[str], *, by_nul: bool, joblog: str | None) -> Commands:
    line = sorted_words(words)
    if not line.template:
        Template.parse([])  # refuses it before stdin is read
    if joblog is not None:
        refuse_own_list(joblog, line, files)
    lists = read_lists(line, files, by_nul=by_nul)
    return Commands(Template.parse(line.template, len(lists)), line.template, combined(lists), os.getcwd())

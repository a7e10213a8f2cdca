"""`map`: runs a program once per input, as durable jobs under a supervisor of its own."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import click

from mpdispatch.cli.locate import find_config, find_store, is_default_store
from mpdispatch.cli.logs import log_to_stderr
from mpdispatch.cli.map.ends import EndQueue
from mpdispatch.cli.map.folder import MapFolder
from mpdispatch.cli.map.halt import Halt
from mpdispatch.cli.map.inputs import combined, read_lists, sorted_words
from mpdispatch.cli.map.joblog import parse_joblog
from mpdispatch.cli.map.jobs import MapJobs, payload_of_words, queue_of
from mpdispatch.cli.map.printer import Outputs, Printer
from mpdispatch.cli.map.report import Bar, print_failures
from mpdispatch.cli.map.run import JobLog, MapRun, names_of
from mpdispatch.cli.map.supervision import supervisor_of
from mpdispatch.cli.map.template import Template, quoted
from mpdispatch.cli.output import complain, keep_stdout
from mpdispatch.cli.program import Options, command
from mpdispatch.cli.values import DURATION
from mpdispatch.clock import SECOND_US
from mpdispatch.config import Config
from mpdispatch.cpus import usable_cpus
from mpdispatch.errors import StoreCannotCreate, UsageError
from mpdispatch.execution.commands import why_not_there
from mpdispatch.host.runtime_folder import runtime_folder
from mpdispatch.store.contract import Store
from mpdispatch.supervisor import SupervisorThread


class Commands(NamedTuple):
    """What is to be run."""

    template: Template
    words: Sequence[str]
    """The template as it was given."""
    inputs: Sequence[tuple[str, ...]]

    def words_of(self, position: int) -> list[str]:
        return self.template.words_of(position + 1, self.inputs[position])

    def line_of(self, position: int) -> str:
        return quoted(self.words_of(position))


class Wishes(NamedTuple):
    """The options of a map."""

    slots: int
    max_retries: int
    timeout_s: float | None
    joblog: str | None
    halt: Halt | None
    keeps_order: bool
    shows_bar: bool
    resumes: bool
    resumes_failed: bool


@command(
    "mpdispatch map 'convert {} {.}.png' ::: *.jpg\n"
    "find . -name '*.log' -print0 | mpdispatch map -j 8 'gzip -9 {}' -0\n"
    "mpdispatch map --joblog runs.tsv --resume 'train --seed {1} --rate {2}' ::: 1 2 3 ::: 0.1 0.01",
    name="map",
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
    help="End early: now or soon, then fail=N, success=N, done=N or a share: soon,fail=10%.",
)
@click.option(
    "--resume", is_flag=True, help="Go on with the last map of this template and these inputs, where it ended."
)
@click.option("--resume-failed", is_flag=True, help="As --resume, and run failed jobs again.")
@click.option("--dry-run", is_flag=True, help="Print the commands, quoted, and run nothing.")
@click.option("--bar/--no-bar", default=None, help="Show progress, rate and ETA on stderr [on a terminal].")
def map_command(
    options: Options, words: Sequence[str], files: Sequence[str], by_nul: bool, dry_run: bool, **given: Any
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
    wishes = _wishes(given)
    commands = _commands(words, files, by_nul=by_nul)
    if dry_run:
        out = sys.stdout.buffer
        for position in range(len(commands.inputs)):
            out.write(os.fsencode(commands.line_of(position)) + b"\n")
        return 0
    cwd = os.getcwd()
    if (program := commands.template.program) is not None:
        why = why_not_there(program, cwd=cwd, path=os.environ.get("PATH"))
        if why is not None:
            raise UsageError(f"template: {why}")
    return _map(options, wishes, commands, cwd)


def _wishes(given: dict[str, Any]) -> Wishes:
    bar = given["bar"]
    return Wishes(
        slots=given["slots"] or usable_cpus(),
        max_retries=given["max_retries"],
        timeout_s=given["timeout"],
        joblog=given["joblog"],
        halt=None if given["halt"] is None else Halt.parse(given["halt"]),
        keeps_order=given["keeps_order"],
        shows_bar=(sys.stderr is not None and sys.stderr.isatty()) if bar is None else bar,
        resumes=given["resume"] or given["resume_failed"],
        resumes_failed=given["resume_failed"],
    )


def _commands(words: Sequence[str], files: Sequence[str], *, by_nul: bool) -> Commands:
    line = sorted_words(words)
    if not line.template:
        Template.parse([])  # refuses it before stdin is read
    lists = read_lists(line, files, by_nul=by_nul)
    return Commands(Template.parse(line.template, len(lists)), line.template, combined(lists))


def _map(options: Options, wishes: Wishes, commands: Commands, cwd: str) -> int:
    store = _store(options, cwd)
    queue = queue_of(commands.words, commands.inputs, cwd)
    # As arguments, so that neither file nor environment have the supervisor take other jobs, too.
    config = find_config(options, {"concurrency": wishes.slots, "queues": [queue]})
    store.check(create=True)
    folder = MapFolder(runtime_folder(store) / queue)
    try:
        jobs = MapJobs(store, queue)
        is_resumed = wishes.resumes and jobs.find(len(commands.inputs))
        if not is_resumed:
            _start(wishes, commands, cwd, config, folder, jobs)
        logger = log_to_stderr(verbose=options.verbose)
        if not options.verbose:
            logger.setLevel(logging.ERROR)  # failed jobs are in the table
        ends = EndQueue()
        supervisor = supervisor_of(store, config, ends, logger)
        return _run(wishes, commands, folder, _Parts(store, jobs, ends, supervisor), is_resumed=is_resumed)
    finally:
        folder.close()


class _Parts(NamedTuple):
    store: Store
    jobs: MapJobs
    ends: EndQueue
    supervisor: SupervisorThread


def _run(wishes: Wishes, commands: Commands, folder: MapFolder, parts: _Parts, *, is_resumed: bool) -> int:
    """Run the jobs of the map, or those that are left, and print them; gives the exit code."""
    jobs, total, name_of = parts.jobs, len(commands.inputs), names_of(commands.inputs)
    keep_stdout()  # no worker and no program may hold it open
    stdout = sys.stdout.fileno()
    folder.make_spool()
    outputs = Outputs(parts.store, folder.spool)
    logged = _logged(wishes.joblog) if is_resumed else frozenset[int]()
    with ExitStack() as closing:
        joblog = None
        if wishes.joblog is not None:
            joblog = JobLog(wishes.joblog, outputs, commands.line_of, is_appended=is_resumed)
            closing.callback(joblog.close)
        was_printed = is_resumed and not folder.has_record(jobs.batch_id)
        printed = folder.printed(jobs.batch_id, total, stdout)
        closing.callback(printed.close)
        printer = Printer(outputs, printed, stdout, name_of, keeps_order=wishes.keeps_order, total=total)
        run = MapRun(jobs, parts.ends, printer, name_of, total=total, halt=wishes.halt, joblog=joblog)
        if is_resumed:
            for position, end in jobs.resume(with_failed=wishes.resumes_failed):
                if end is None:
                    printed.again(position)
                    continue
                if was_printed:
                    printed.end(position)
                run.take(position, end, is_logged=position + 1 in logged)
        if wishes.shows_bar:
            run.bar = Bar(total, run.ended)
        if run.ended < total:
            run.run(parts.supervisor)
        if run.bar is not None:
            run.bar.clear()
    if run.ended == total:
        folder.remove()
    return _exit_code(run, parts.supervisor, wishes.halt)


def _exit_code(run: MapRun, supervisor: SupervisorThread, halt: Halt | None) -> int:
    """Say what there is to say, and give the exit code."""
    if run.failed:
        print_failures(run.failures, run.failed, run.total)
    if run.ended == run.total:
        return 1 if run.failed else 0
    counted = f"{run.ended:,} of {run.total:,} jobs have ended; the same command with --resume goes on"
    if run.stop_signal is not None:
        complain(f"interrupted: {counted}")
        return 128 + run.stop_signal
    if run.is_halted and halt is not None:
        complain(f"halted: {counted}")
        return 1 if run.failed and halt.of != "success" else 0
    complain(f"the supervisor ended: {counted}")
    return (supervisor.report and supervisor.report.exit_code) or 75


def _logged(joblog: str | None) -> frozenset[int]:
    """The numbers of the jobs in a joblog that is there already."""
    if joblog is None or not os.path.exists(joblog):
        return frozenset()
    try:
        with open(joblog, encoding="utf-8", errors="surrogateescape") as file:
            return frozenset(parse_joblog(file))
    except OSError as error:
        raise UsageError(f"--joblog: {joblog} cannot be read: {error.strerror}") from error


def _store(options: Options, cwd: str) -> Store:
    """The store that is named, else that of the working folder, below the state folder of this user."""
    if not is_default_store(options):
        return find_store(options)
    base = os.environ.get("XDG_STATE_HOME", "")
    state = Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state"
    digest = hashlib.blake2b(os.fsencode(cwd), digest_size=8).hexdigest()
    folder = state / "mpdispatch" / "map" / digest
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreCannotCreate(
            str(folder), f"cannot be made: {error.strerror}; name a store (--store)"
        ) from error
    return find_store(Options(store=str(folder / "jobs.db"), config=options.config))


def _start(
    wishes: Wishes, commands: Commands, cwd: str, config: Config, folder: MapFolder, jobs: MapJobs
) -> None:
    """Give up what an earlier map has left, and enqueue the jobs of this one."""
    jobs.discard()
    folder.clear()
    payloads = [
        payload_of_words(
            commands.words_of(position), cwd=cwd, spool=str(folder.spool), max_bytes=config.max_payload_bytes
        )
        for position in range(len(commands.inputs))
    ]
    timeout_us = None if wishes.timeout_s is None else round(wishes.timeout_s * SECOND_US)
    jobs.enqueue(quoted(commands.words), payloads, max_retries=wishes.max_retries, timeout_us=timeout_us)

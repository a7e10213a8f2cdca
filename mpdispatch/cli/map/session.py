"""A map from its command line to its exit code: makes its jobs or finds them, runs and prints them. Effects."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from mpdispatch.cli.map.ends import EndQueue
from mpdispatch.cli.map.feed import Feed
from mpdispatch.cli.map.folder import MapFolder
from mpdispatch.cli.map.halt import Halt
from mpdispatch.cli.map.joblog_file import JobLog
from mpdispatch.cli.map.jobs import MapJobs, payload_of_words, queue_of
from mpdispatch.cli.map.printer import Outputs, Printer
from mpdispatch.cli.map.report import Bar, print_failures
from mpdispatch.cli.map.run import MapRun
from mpdispatch.cli.map.supervision import supervisor_of
from mpdispatch.cli.map.template import Template, quoted
from mpdispatch.cli.output import complain, keep_stdout
from mpdispatch.clock import SECOND_US
from mpdispatch.config import Config
from mpdispatch.host.runtime_folder import runtime_folder
from mpdispatch.store.contract import Store
from mpdispatch.supervisor import SupervisorThread


class Commands(NamedTuple):
    """What is to be run. A position counts the inputs from 0."""

    template: Template
    words: Sequence[str]
    """The template as it was given."""
    inputs: Sequence[tuple[str, ...]]
    cwd: str

    @property
    def queue(self) -> str:
        """The queue of its jobs."""
        return queue_of(self.words, self.inputs, self.cwd)

    @property
    def text(self) -> str:
        """The template as a line."""
        return self.words[0] if len(self.words) == 1 else quoted(self.words)

    def words_of(self, position: int) -> list[str]:
        return self.template.words_of(position + 1, self.inputs[position])

    def line_of(self, position: int) -> str:
        return quoted(self.words_of(position))

    def name_of(self, position: int) -> str:
        """The name of a job for people: its inputs."""
        return " ".join(self.inputs[position])


class Wishes(NamedTuple):
    """The options of a map."""

    max_retries: int
    timeout_s: float | None
    joblog: str | None
    halt: Halt | None
    keeps_order: bool
    shows_bar: bool
    resumes: bool
    resumes_failed: bool


class MapSession:
    """One run of `mpdispatch map`. Close it."""

    def __init__(
        self, store: Store, config: Config, commands: Commands, wishes: Wishes, log: logging.Logger
    ) -> None:
        """Make the jobs of the map, or find those of the last one if it is to be resumed.

        Raises UsageError: another process works on this map; the joblog cannot be written. StoreError.
        """
        self._store, self._config, self._commands, self._wishes = store, config, commands, wishes
        self._total = len(commands.inputs)
        self._closing = ExitStack()
        with ExitStack() as closing:  # of what is open when something fails here
            self._folder = MapFolder(runtime_folder(store) / commands.queue)
            closing.callback(self._folder.close)
            self._jobs = MapJobs(store, commands.queue)
            self._is_resumed = wishes.resumes and self._jobs.find(self._total)
            self._joblog: JobLog | None = None
            if wishes.joblog is not None:
                self._joblog = JobLog(wishes.joblog, commands.line_of, is_resumed=self._is_resumed)
                closing.callback(self._joblog.close)
            if not self._is_resumed:
                self._begin()
            self._closing = closing.pop_all()
        self._ends = EndQueue()
        self._supervisor = supervisor_of(store, config, self._ends, log)

    def close(self) -> None:
        self._closing.close()

    def _begin(self) -> None:
        """Give up what an earlier map has left, and begin this one."""
        for position in range(self._total):
            self._payload_of(position)  # so that one that is too large is refused before any job is enqueued
        self._jobs.discard()
        self._folder.clear()
        self._jobs.begin(self._commands.text)

    def _payload_of(self, position: int) -> bytes:
        return payload_of_words(
            self._commands.words_of(position),
            cwd=self._commands.cwd,
            spool=str(self._folder.spool),
            max_bytes=self._config.max_payload_bytes,
        )

    def run(self) -> int:
        """Run the jobs that have not ended, and print what is not printed; gives the exit code.

        Raises BrokenPipeError: nobody reads stdout any more. DispatchError: the supervisor cannot go on.
        """
        keep_stdout()  # or workers would hold it open
        stdout = sys.stdout.fileno()
        self._folder.make_spool()
        timeout_s = self._wishes.timeout_s
        feed = Feed(
            self._jobs,
            self._payload_of,
            total=self._total,
            slots=self._config.slots,
            max_retries=self._wishes.max_retries,
            timeout_us=None if timeout_s is None else round(timeout_s * SECOND_US),
        )
        if not self._is_resumed:
            feed.fill(0)
        outputs = Outputs(self._store, self._folder.spool)
        printed = self._folder.printed(self._jobs.batch_id, self._total, stdout, is_resumed=self._is_resumed)
        self._closing.callback(printed.close)
        name_of = self._commands.name_of
        printer = Printer(
            outputs, printed, stdout, name_of, keeps_order=self._wishes.keeps_order, total=self._total
        )
        run = MapRun(
            self._jobs,
            self._ends,
            outputs,
            printer,
            feed,
            name_of=name_of,
            total=self._total,
            halt=self._wishes.halt,
            joblog=self._joblog,
        )
        if self._is_resumed:
            for position, end in self._jobs.resume(with_failed=self._wishes.resumes_failed):
                if end is not None:
                    run.take(position, end)
                    continue
                printed.again(position)
                if self._joblog is not None:
                    self._joblog.runs_again(position)
            printer.print_ready()
        self._run_rest(run)
        if run.ended == self._total:
            self._folder.remove()
        return exit_code_of(run, self._supervisor, self._wishes.halt)

    def _run_rest(self, run: MapRun) -> None:
        if run.ended == self._total:
            return
        if self._wishes.shows_bar:
            run.bar = Bar(self._total, run.ended)
        try:
            run.run(self._supervisor)
        finally:
            if run.bar is not None:
                run.bar.clear()


def exit_code_of(run: MapRun, supervisor: SupervisorThread, halt: Halt | None) -> int:
    """The exit code of a map that has ended or was ended. Says on stderr why, and which jobs failed."""
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

"""A map from its command line to its exit code: makes its jobs or finds them, runs and prints them. Effects."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from contextlib import ExitStack
from pathlib import Path

from mpdispatch.cli.locate import find_config, find_store, is_default_store
from mpdispatch.cli.logs import log_to_stderr
from mpdispatch.cli.map.ends import EndQueue
from mpdispatch.cli.map.feed import Feed
from mpdispatch.cli.map.folder import MapFolder
from mpdispatch.cli.map.halt import Halt
from mpdispatch.cli.map.joblog_file import JobLog
from mpdispatch.cli.map.jobs import MapJobs, lost, payload_of_words
from mpdispatch.cli.map.printer import Outputs, Printer
from mpdispatch.cli.map.report import Bar, print_failures
from mpdispatch.cli.map.request import Commands, Wishes
from mpdispatch.cli.map.run import MapRun
from mpdispatch.cli.map.supervision import supervisor_of
from mpdispatch.cli.output import complain
from mpdispatch.cli.program import Options
from mpdispatch.clock import SECOND_US
from mpdispatch.config import Config
from mpdispatch.errors import StoreCannotCreate, UsageError
from mpdispatch.execution.commands import why_not_there
from mpdispatch.host.runtime_folder import runtime_folder
from mpdispatch.policy.pools import PROCESSES
from mpdispatch.pool.exec import EarlyZygote
from mpdispatch.store.contract import Store
from mpdispatch.supervisor import SupervisorThread

_KEPT_S = 90 * 86400.0
"""How long ended jobs are kept where no store is named: a map can be resumed as long after its first job ended."""


def run_map(options: Options, commands: Commands, wishes: Wishes, zygote: EarlyZygote | None) -> int:
    """Run a map, or go on with it, to its exit code. `zygote`: that of its supervisor, started already.

    Raises DispatchError; BrokenPipeError: nobody reads stdout any more.
    """
    _refuse_missing(commands)
    store = _store(options, commands.cwd)
    # As arguments, so that neither file nor environment have the supervisor take other jobs, too.
    settings: dict[str, object] = {"concurrency": wishes.slots, "queues": [commands.queue], "pool": PROCESSES}
    if is_default_store(options):
        settings["retention"] = _KEPT_S
    config = find_config(options, settings)
    store.check(create=True)
    log = log_to_stderr(verbose=options.verbose)
    if not options.verbose:
        log.setLevel(logging.ERROR)  # failed jobs are in the table
    session = MapSession(store, config, commands, wishes, log, zygote)
    try:
        return session.run()
    finally:
        session.close()


def _refuse_missing(commands: Commands) -> None:
    """Refuse a program that is not there, unless the inputs say which it is."""
    program = commands.template.program
    if program is not None:
        why = why_not_there(program, cwd=commands.cwd, path=os.environ.get("PATH"))
        if why is not None:
            raise UsageError(f"template: {why}")


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


class MapSession:
    """One run of `mpdispatch map`. Close it."""

    def __init__(
        self,
        store: Store,
        config: Config,
        commands: Commands,
        wishes: Wishes,
        log: logging.Logger,
        zygote: EarlyZygote | None,
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
            self._is_resumed = wishes.resumes and self._find()
            if not self._is_resumed:
                for position in range(self._total):
                    self._payload_of(
                        position
                    )  # so that one that is too large is refused before anything is changed
            self._joblog: JobLog | None = None
            if wishes.joblog is not None:
                self._joblog = JobLog(wishes.joblog, commands.line_of, is_resumed=self._is_resumed)
                closing.callback(self._joblog.close)
            if not self._is_resumed:
                self._announce()
            self._closing = closing.pop_all()
        self._ends = EndQueue()
        self._supervisor = supervisor_of(store, config, self._ends, log, zygote)

    def close(self) -> None:
        self._closing.close()

    def _find(self) -> bool:
        """Find the map that is to go on; False: there is none. Raises UsageError: it cannot go on."""
        if self._jobs.find(self._commands.words_of, self._total):
            return True
        if self._folder.has_record:
            raise lost("its jobs are not there any more")
        return False

    def _announce(self) -> None:
        """Get ready to begin. What an earlier map has left stays until jobs of this one are stored: see `_take_over`."""
        last = self._jobs.last()
        if last:
            self._take_over(last)
        self._folder.announce(last, self._total)
        self._jobs.begin(self._commands.text)

    def _take_over(self, batch_id: int) -> None:
        """The map of this batch is stored: give up the one before it, if that was not done yet."""
        given_up = self._folder.given_up(batch_id)
        if given_up is not None:
            self._jobs.discard(given_up)
            self._folder.take_over(batch_id)

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
        stdout = sys.stdout.fileno()
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
        self._take_over(self._jobs.batch_id)
        self._folder.make_spool()
        outputs = Outputs(self._store, self._folder.spool)
        printed = self._folder.printed(self._jobs.batch_id, self._total, stdout)
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
    has_won = run.is_halted and halt is not None and halt.of == "success"
    status = 1 if run.failed and not has_won else 0
    if run.ended == run.total:
        return status
    counted = f"{run.ended:,} of {run.total:,} jobs have ended; the same command with --resume goes on"
    if run.stop_signal is not None:
        complain(f"interrupted: {counted}")
        return 128 + run.stop_signal
    if run.is_halted:
        complain(f"halted: {counted}")
        return status
    complain(f"the supervisor ended: {counted}")
    return (supervisor.report and supervisor.report.exit_code) or 75

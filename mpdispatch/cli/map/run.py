"""Runs the jobs of a map to their ends, and prints them. Effects: the supervisor, stdout, stderr, the joblog."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from mpdispatch.cli.map.ends import CUT_OFF, End, EndQueue
from mpdispatch.cli.map.halt import Halt
from mpdispatch.cli.map.joblog import HEADER, JobLogLine, signal_number
from mpdispatch.cli.map.jobs import MapJobs
from mpdispatch.cli.map.printer import Outputs, Printer
from mpdispatch.cli.map.report import MOST_FAILURES, Bar, Failure, detail_of, how_it_ended
from mpdispatch.errors import UsageError
from mpdispatch.model import Cause
from mpdispatch.supervisor import SupervisorThread

_LOOK_S = 0.25
"""How often a reader of stdout is looked for, while no job ends."""
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class JobLog:
    """A joblog that is written: a line per job as it ends."""

    def __init__(
        self, path: str, outputs: Outputs, line_of: Callable[[int], str], *, is_appended: bool
    ) -> None:
        """`line_of`: the command of a job, quoted. Raises UsageError: it cannot be written."""
        self._outputs, self._line_of = outputs, line_of
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (0 if is_appended else os.O_TRUNC)
        try:
            self._file = os.open(path, flags, 0o666)
        except OSError as error:
            raise UsageError(f"--joblog: {path} cannot be written: {error.strerror}") from error
        if os.fstat(self._file).st_size == 0:
            self._write(HEADER)

    def add(self, position: int, end: End) -> None:
        status = end.exit_status
        if status is None:
            status = 0 if end.is_success or end.signal is not None else -1  # as GNU parallel after a timeout
        line = JobLogLine(
            number=position + 1,
            started_s=end.started_s,
            duration_s=end.duration_s,
            received_bytes=self._outputs.size(end),
            exit_status=status,
            signal=signal_number(end.signal),
            command=self._line_of(position),
        )
        self._write(str(line))

    def _write(self, text: str) -> None:
        os.write(self._file, os.fsencode(text) + b"\n")

    def close(self) -> None:
        os.close(self._file)


class MapRun:
    """A map at work: counts, prints and logs the ends of its jobs."""

    def __init__(
        self,
        jobs: MapJobs,
        ends: EndQueue,
        printer: Printer,
        name_of: Callable[[int], str],
        *,
        total: int,
        halt: Halt | None,
        joblog: JobLog | None,
    ) -> None:
        self._jobs, self._ends, self._printer, self._name_of = jobs, ends, printer, name_of
        self._halt, self._joblog = halt, joblog
        self.total = total
        self.succeeded = self.failed = 0
        self.failures: list[Failure] = []
        self.bar: Bar | None = None
        self.is_halted = False
        self.stop_signal: int | None = None
        """The signal that asked this process to end."""

    @property
    def ended(self) -> int:
        return self.succeeded + self.failed

    def take(self, position: int, end: End, *, is_logged: bool = False) -> None:
        """A job has ended. `is_logged`: the joblog has it already."""
        if end.is_success:
            self.succeeded += 1
        else:
            self.failed += 1
            if len(self.failures) < MOST_FAILURES:
                name = self._name_of(position)
                self.failures.append(Failure(position, name, how_it_ended(end), end.attempt, detail_of(end)))
        if self._joblog is not None and not is_logged:
            self._joblog.add(position, end)
        if self.bar is not None:
            self.bar.clear()
        self._printer.add(position, end)

    def run(self, supervisor: SupervisorThread) -> None:
        """Take the ends of all jobs, or those before a halt or a signal. The supervisor is started and stopped.

        Raises BrokenPipeError: nobody reads stdout. DispatchError: the supervisor cannot go on.
        """
        with self._signals_stop(supervisor):
            supervisor.start()
            patience_s: float | None = 0.0
            try:
                while self.ended < self.total and self.stop_signal is None and supervisor.is_alive:
                    self._take_next()
                    if self._is_halt_due():
                        patience_s = 0.0 if self._halt is not None and self._halt.is_now else _FOR_EVER_S
                        break
            finally:
                supervisor.stop(patience_s)
            self._take_rest()

    def _take_next(self) -> None:
        end = self._ends.get(_LOOK_S)
        if end is None:
            self._printer.check()
        else:
            self._take_told(end)
        if self.bar is not None:
            self.bar.draw(self.ended, self.failed)

    def _take_rest(self) -> None:
        while (end := self._ends.get(0)) is not None:
            self._take_told(end)

    def _take_told(self, end: End) -> None:
        position = self._jobs.position_of(end.job_id)
        if position is None:
            return  # of an earlier map that was given up
        if end.cause not in CUT_OFF:
            self.take(position, end)
        elif end.cause is Cause.LEASE_LOST:
            self._jobs.run_again(end)  # it ran when the last supervisor was killed

    def _is_halt_due(self) -> bool:
        if self._halt is None or self.is_halted:
            return False
        self.is_halted = self._halt.is_met(failed=self.failed, succeeded=self.succeeded, total=self.total)
        return self.is_halted

    @contextmanager
    def _signals_stop(self, supervisor: SupervisorThread) -> Iterator[None]:
        """Inside it, Ctrl-C and SIGTERM end the jobs; a second one, this process at once."""

        def stop(number: int, frame: FrameType | None) -> None:
            was_asked, self.stop_signal = self.stop_signal is not None, number
            supervisor.ask_to_stop(0.0)
            self._ends.wake()
            if was_asked:
                raise KeyboardInterrupt

        before = {
            number: signal.signal(number, stop)
            for number in _STOPPING
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


_FOR_EVER_S = 10 * 365 * 86400.0


def names_of(inputs: Sequence[Sequence[str]]) -> Callable[[int], str]:
    """The name of a job for people: its inputs."""
    return lambda position: " ".join(inputs[position])

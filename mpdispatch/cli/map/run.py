"""Runs the jobs of a map to their ends, and prints them. Effects: a thread, signals, stdout, stderr."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from mpdispatch.cli.map.ends import CUT_OFF, End, EndQueue
from mpdispatch.cli.map.feed import Feed
from mpdispatch.cli.map.halt import Halt
from mpdispatch.cli.map.joblog_file import JobLog
from mpdispatch.cli.map.jobs import MapJobs
from mpdispatch.cli.map.printer import Outputs, Printer
from mpdispatch.cli.map.report import MOST_FAILURES, Bar, FailedJob, detail_of, how_it_ended
from mpdispatch.model import Cause
from mpdispatch.supervisor import SupervisorThread

_LOOK_S = 0.25
"""How often a reader of stdout is looked for, while no job ends."""
_FOR_EVER_S = 10 * 365 * 86400.0
"""How long running jobs may take to finish after `--halt soon`."""
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class MapRun:
    """A map at work: counts, prints and logs the ends of its jobs."""

    def __init__(
        self,
        jobs: MapJobs,
        ends: EndQueue,
        outputs: Outputs,
        printer: Printer,
        feed: Feed,
        *,
        name_of: Callable[[int], str],
        total: int,
        halt: Halt | None,
        joblog: JobLog | None,
    ) -> None:
        """`name_of`: the input of a job, by its position."""
        self._jobs, self._ends, self._outputs, self._printer, self._feed = jobs, ends, outputs, printer, feed
        self._name_of, self._halt, self._joblog = name_of, halt, joblog
        self.total = total
        self.succeeded = self.failed = 0
        self._before = 0, 0
        """Those of earlier runs of a map that is resumed. `halt` does not count them."""
        self.failures: list[FailedJob] = []
        self.bar: Bar | None = None
        self.is_halted = self._is_stopping = False
        self.stop_signal: int | None = None
        """The signal that asked this process to end."""

    @property
    def ended(self) -> int:
        return self.succeeded + self.failed

    def take(self, position: int, end: End) -> None:
        """A job has ended: count it, log it, and print it if it is its turn."""
        if end.is_success:
            self.succeeded += 1
        else:
            self.failed += 1
            if len(self.failures) < MOST_FAILURES:
                name = self._name_of(position)
                self.failures.append(FailedJob(position, name, how_it_ended(end), end.attempt, detail_of(end)))
        if self._joblog is not None and position not in self._joblog:
            self._joblog.add(position, end, self._outputs.size(end))
        if self.bar is not None:
            self.bar.clear()
        self._printer.add(position, end)

    def run(self, supervisor: SupervisorThread) -> None:
        """Take the ends of all jobs, or those before a halt or a signal. The supervisor is started and stopped.

        Raises BrokenPipeError: nobody reads stdout. DispatchError: the supervisor cannot go on.
        """
        self._before = self.succeeded, self.failed
        with self._signals_stop(supervisor):
            self._feed.fill(self.ended)
            supervisor.start()
            try:
                while self.ended < self.total and self.stop_signal is None and supervisor.is_alive:
                    self._take_next()
                    self._feed.fill(self.ended)
                    if self._is_halt_due():
                        break
            finally:
                self._is_stopping = True
                if self.stop_signal is None:
                    supervisor.ask_to_stop(_FOR_EVER_S if self._lets_finish else 0.0)
                supervisor.wait()
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

    @property
    def _lets_finish(self) -> bool:
        """Whether a halt lets running jobs finish."""
        return self.is_halted and self._halt is not None and not self._halt.is_now

    def _is_halt_due(self) -> bool:
        if self._halt is None or self.is_halted:
            return False
        succeeded, failed = self.succeeded - self._before[0], self.failed - self._before[1]
        self.is_halted = self._halt.is_met(failed=failed, succeeded=succeeded, total=self.total)
        return self.is_halted

    @contextmanager
    def _signals_stop(self, supervisor: SupervisorThread) -> Iterator[None]:
        """Inside it, Ctrl-C and SIGTERM ask the jobs to end; a second one kills them, and a third this process."""
        count = 0

        def stop(number: int, frame: FrameType | None) -> None:
            nonlocal count
            count += 1
            self.stop_signal = number
            supervisor.ask_to_stop(0.0)
            self._ends.wake()
            # The main thread waits for the supervisor, or to be woken; but it may print to a reader that does not read.
            if count > 2 or (count > 1 and not self._is_stopping):
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

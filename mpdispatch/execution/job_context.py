"""The job that a handler is running: its facts, and its reports of progress and output. Runs in the worker process.

Frequent reports are held back, to spare the supervisor, and sent a moment later: the last one before a long silence
matters most.
"""

from __future__ import annotations

import _thread
import contextlib
import logging
import math
import threading
import time
from datetime import datetime
from typing import Any

import msgspec

from mpdispatch.clock import sleep
from mpdispatch.errors import UsageError
from mpdispatch.execution.output import OutputSender, Reporter
from mpdispatch.handlers.arrays import is_array
from mpdispatch.handlers.safejson import printable
from mpdispatch.model import ClaimedJob, Stream
from mpdispatch.model.json import moment_of
from mpdispatch.policy.names import shown

OWN_THREADS = "mpdispatch-io"
"""Threads with this prefix are ours and stay between jobs. They store the jobs that async handlers enqueue."""
_PROGRESS_INTERVAL_S = 0.1
_MAX_TEXT_CHARS = 1000

logger = logging.getLogger("mpdispatch.job")


class JobContext:
    """The job a handler is running, as it was claimed: `current_job()` gives it, and middleware gets it.

    A handler reads id, name, queue, attempt, max_retries, deadline, idempotency_key, slot, fencing_token,
    trace_context and is_cancelled, and calls progress(...) and log(...). The executor calls the other methods.
    """

    __slots__ = {
        "_is_scheduled": "Whether a flush of what is held back is scheduled.",
        "_job": None,
        "_last_report_s": None,
        "_lock": None,
        "_output": None,
        "_reporter": None,
        "_unsent": None,
        "deadline": "When the timeout of this start strikes (aware UTC); None: it has none.",
        "is_cancelled": "Whether this start was asked to end, by a cancel, a timeout or a shutdown.",
    }

    def __init__(self, job: ClaimedJob, *, reporter: Reporter, deadline: datetime | None) -> None:
        self._job = job
        self._reporter: Reporter | None = reporter
        self._unsent: bytes | None = None
        self._output: OutputSender | None = None
        self._last_report_s = -math.inf
        self._is_scheduled = False
        self._lock = threading.Lock()
        self.deadline = deadline
        self.is_cancelled = False

    @property
    def id(self) -> int:
        """The job's number in the store; a retry of it keeps it."""
        return self._job.id

    @property
    def name(self) -> str:
        """The name of its handler."""
        return self._job.name

    @property
    def queue(self) -> str:
        """The queue it was claimed from."""
        return self._job.queue

    @property
    def attempt(self) -> int:
        """Attempts spent, this one included: 1 = the first."""
        return self._job.attempt

    @property
    def max_retries(self) -> int:
        """How often it is tried again after a failure: attempt `max_retries + 1` is the last."""
        return self._job.max_retries

    @property
    def idempotency_key(self) -> str | None:
        """The key it was enqueued with; None: without one."""
        return self._job.idempotency_key

    @property
    def slot(self) -> datetime | None:
        """The moment of the schedule for which a cron entry made it (aware UTC); None: no entry did."""
        return None if self._job.slot_us is None else moment_of(self._job.slot_us)

    @property
    def trace_context(self) -> str | None:
        """The trace it was enqueued in, as a JSON object of header name → value; None if it was not traced."""
        return self._job.trace_context

    @property
    def fencing_token(self) -> int:
        """Grows with every start of this job. Send it along with what you write, so that an older start's is refused."""
        return self._job.starts

    def __repr__(self) -> str:
        return f"<JobContext id={self.id} name={self.name!r} attempt={self.attempt}>"

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Report how far the job is. Cheap to call often: at most 10 reports a second are sent, and always the last.

        Does nothing once the job has ended.

        Raises UsageError: a number is negative or not finite, or `message` is no text.
        """
        done, total = _amount("done", done), None if total is None else _amount("total", total)
        if message is not None and not isinstance(message, str):
            raise UsageError(f"progress: message must be text, not {shown(message)}")
        text = None if message is None else printable(message[:_MAX_TEXT_CHARS])
        data = msgspec.json.encode({"done": done, "total": total, "message": text})
        with self._lock:
            self._unsent = data
            self._send_progress_if_due()
            self._schedule_flush()

    def log(self, text: str) -> None:
        """Write a line to the log of this job: the logger `mpdispatch.job`, and the store (`mpdispatch logs ID`).

        Of each start the last 64 KiB are kept.
        """
        facts = {"job_id": self.id, "job_name": self.name, "job_attempt": self.attempt}
        logger.info("%s", text, extra=facts)
        self.write(Stream.LOG, printable(str(text)) + "\n")

    def write(self, stream: Stream, text: str, *, is_last: bool = False) -> None:
        """Report what a command wrote to a stream. Does nothing once the job has ended.

        `is_last`: the command has ended, so that this goes along with the outcome, and wakes the supervisor once.
        """
        with self._lock:
            if self._reporter is None:
                return
            if self._output is None:
                self._output = OutputSender(self._reporter, self.id, self.fencing_token)
            self._output.write(stream, text, is_last=is_last)
            if not is_last:
                self._schedule_flush()

    def _send_progress_if_due(self) -> None:
        now_s = time.monotonic()
        if (
            self._reporter is not None
            and self._unsent is not None
            and now_s - self._last_report_s >= _PROGRESS_INTERVAL_S
        ):
            data, self._unsent, self._last_report_s = self._unsent, None, now_s
            self._reporter.progress(self._job.id, self._job.starts, data)

    def _schedule_flush(self) -> None:
        """If something is held back, have it sent soon. The caller holds the lock."""
        has_output = self._output is not None and self._output.holds_back
        if not self._is_scheduled and self._reporter is not None and (self._unsent is not None or has_output):
            self._is_scheduled = True
            _later.schedule(self)

    def flush(self) -> None:
        """Send what is held back, as far as it is due."""
        with self._lock:
            self._is_scheduled = False
            self._send_progress_if_due()
            if self._reporter is not None and self._output is not None:
                self._output.send_if_due()
            self._schedule_flush()

    def after_fork(self) -> None:
        """In a fork that the handler made: other threads do not exist there, and may have held a lock."""
        _later.begin_anew()
        self._lock, self._is_scheduled = threading.Lock(), False

    def close(self) -> None:
        """Send all that is held back; nothing is sent afterwards. The executor calls this."""
        with self._lock:
            reporter, self._reporter = self._reporter, None
            unsent, self._unsent = self._unsent, None
            output, self._output = self._output, None
        if reporter is not None and output is not None:
            output.send(is_last=True)
        if reporter is not None and unsent is not None:
            reporter.progress(self._job.id, self._job.starts, unsent)


class _Later:
    """A thread that sends what is held back. It ends when nothing is.

    It is no `threading.Thread`: freeing one in the main thread runs a weak reference's callback there, and an interrupt
    that is raised inside a callback is lost.
    """

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[JobContext] = []
        self._is_running = False

    def schedule(self, context: JobContext) -> None:
        """Have the reports of this job flushed after a while."""
        with self._lock:
            self._waiting.append(context)
            # If no thread can be started, the next report or the end of the job sends it.
            with contextlib.suppress(RuntimeError):
                if not self._is_running:
                    _thread.start_new_thread(self._run, ())
                    # Set afterwards: an interrupt between the two lines makes two threads, not none.
                    self._is_running = True

    def _run(self) -> None:
        while True:
            sleep(_PROGRESS_INTERVAL_S)
            with self._lock:
                waiting, self._waiting = self._waiting, []
                if not waiting:
                    self._is_running = False
                    return
            for context in waiting:
                try:
                    context.flush()
                except Exception:  # the main thread meets the same error, and ends the worker
                    logger.debug("cannot send what was held back", exc_info=True)


_later = _Later()


def _amount(label: str, number: Any) -> float:
    if type(number) not in (int, float) and is_array(type(number)) and number.ndim == 0:
        number = number.item()  # a NumPy number
    if not (isinstance(number, (int, float)) and 0 <= number < math.inf):
        raise UsageError(f"progress: {label} must be a number of zero or more, not {shown(number)}")
    return number

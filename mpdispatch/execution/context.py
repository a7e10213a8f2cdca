"""What a handler can know and say of the job it is running. Runs in the worker process.

One job runs at a time in a worker, so the current one is a plain global: threads a handler starts see it too.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Protocol

import msgspec

from mpdispatch.errors import DispatchError, UsageError, WrongProcessError
from mpdispatch.execution.output import OutputSender
from mpdispatch.execution.safejson import printable
from mpdispatch.model import ClaimedJob, Stream

__all__ = [
    "OWN_THREADS",
    "JobContext",
    "Reporter",
    "current_engine",
    "current_job",
    "enter_worker",
    "in_worker",
    "leave_main_at_work",
    "refuse_while_importing",
    "release_current_engine",
    "rerunning_main",
    "serving",
    "set_current_engine",
    "set_current_job",
]

OWN_THREADS = "mpdispatch-io"
"""Threads with this prefix are ours and stay between jobs: they store what async handlers enqueue."""
_PROGRESS_INTERVAL_S = 0.1
_MAX_TEXT_CHARS = 1000

logger = logging.getLogger("mpdispatch.job")


class Reporter(Protocol):
    """Where a handler's reports go: to the supervisor. Called from any thread of the worker."""

    def progress(self, job_id: int, starts: int, data: bytes) -> None:
        """`data` is the JSON of done, total and message."""
        ...

    def output(self, job_id: int, starts: int, stream: Stream, text: str, written: int) -> None:
        """`text` was written to the stream; with it, `written` characters in all."""
        ...


class JobContext:
    """The job a handler is running, as it was claimed."""

    __slots__ = (
        "_job",
        "_last_report_s",
        "_lock",
        "_output",
        "_reporter",
        "_unsent",
        "deadline",
        "is_cancelled",
    )

    def __init__(self, job: ClaimedJob, *, reporter: Reporter, deadline: datetime | None) -> None:
        self._job = job
        self._reporter: Reporter | None = reporter
        self._unsent: bytes | None = None
        self._output: OutputSender | None = None
        self._last_report_s = -math.inf
        self._lock = threading.Lock()
        self.deadline = deadline
        """When its timeout strikes (aware UTC); None if it has none."""
        self.is_cancelled = False
        """Whether this start was asked to end (cancel, timeout or shutdown)."""

    @property
    def id(self) -> int:
        return self._job.id

    @property
    def name(self) -> str:
        return self._job.name

    @property
    def queue(self) -> str:
        return self._job.queue

    @property
    def attempt(self) -> int:
        """Attempts spent, this one included: 1 = the first."""
        return self._job.attempt

    @property
    def max_retries(self) -> int:
        return self._job.max_retries

    @property
    def idempotency_key(self) -> str | None:
        return self._job.idempotency_key

    @property
    def trace_context(self) -> str | None:
        """The trace it was enqueued in, as a JSON object of header name → value; None if it was not traced."""
        return self._job.trace_context

    @property
    def fencing_token(self) -> int:
        """Grows with every start of this job. Hand it to what you write to, to refuse an older start."""
        return self._job.starts

    def __repr__(self) -> str:
        return f"<JobContext id={self.id} name={self.name!r} attempt={self.attempt}>"

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Tell how far the job is. Cheap to call often: at most 10 a second are sent, and always the last.

        Does nothing once the job has ended.

        Raises:
            UsageError: a number is negative or not finite, or `message` is no text.
        """
        for label, number in (("done", done), ("total", total)):
            if number is not None and not (isinstance(number, (int, float)) and 0 <= number < math.inf):
                raise UsageError(f"progress: {label} must be a number of zero or more, not {number!r}")
        if message is not None and not isinstance(message, str):
            raise UsageError(f"progress: message must be text, not {message!r}")
        text = None if message is None else printable(message[:_MAX_TEXT_CHARS])
        data = msgspec.json.encode({"done": done, "total": total, "message": text})
        with self._lock:
            now_s = time.monotonic()
            if now_s - self._last_report_s < _PROGRESS_INTERVAL_S:
                self._unsent = data
            elif self._reporter is not None:
                self._unsent, self._last_report_s = None, now_s
                self._reporter.progress(self._job.id, self._job.starts, data)

    def log(self, text: str) -> None:
        """Write a line to the log of this job: the logger `mpdispatch.job`, and the store (`mpdispatch logs ID`).

        Of each start the last 64 KiB are kept.
        """
        facts = {"job_id": self.id, "job_name": self.name, "job_attempt": self.attempt}
        logger.info("%s", text, extra=facts)
        self.write(Stream.LOG, printable(str(text)) + "\n")

    def write(self, stream: Stream, text: str) -> None:
        """Pass on what a command wrote. Does nothing once the job has ended."""
        with self._lock:
            if self._reporter is None:
                return
            if self._output is None:
                self._output = OutputSender(self._reporter, self.id, self.fencing_token)
            self._output.write(stream, text)

    def send_output(self) -> None:
        """Pass on what was held back to spare the supervisor, if it is time."""
        with self._lock:
            if self._reporter is not None and self._output is not None:
                self._output.send_if_due()

    def close(self) -> None:
        """Send the last of what was held back; nothing is sent after it. The executor calls this."""
        with self._lock:
            reporter, self._reporter = self._reporter, None
            unsent, self._unsent = self._unsent, None
            output, self._output = self._output, None
        if reporter is not None and output is not None:
            output.send()
        if reporter is not None and unsent is not None:
            reporter.progress(self._job.id, self._job.starts, unsent)


_current: JobContext | None = None
_engine: Any = None
_serving: ContextVar[Any] = ContextVar("mpdispatch_engine", default=None)
_is_worker = False
_is_copy = False


def current_job() -> JobContext:
    """The job that the calling handler runs.

    Raises:
        DispatchError: no job is running here.
    """
    if _current is None:
        raise DispatchError("current_job() works only inside a handler while a worker runs its job")
    return _current


def set_current_job(context: JobContext | None) -> None:
    """The executor sets and clears it."""
    global _current
    _current = context


def current_engine() -> Any:
    """The engine whose handler is running, or of the app whose request is served.

    Raises:
        DispatchError: there is none here.
    """
    engine = _serving.get()
    if engine is None:
        engine = _engine
    if engine is None:
        raise DispatchError(
            "current_engine() works inside a handler while a worker runs its job, and inside an app that has a"
            " DispatchExtension installed and started"
        )
    return engine


def set_current_engine(engine: Any) -> None:
    """Say which engine this process works for."""
    global _engine
    _engine = engine


@contextmanager
def serving(engine: Any) -> Iterator[None]:
    """Inside it `current_engine()` is this engine: a process may serve several apps, each with its own."""
    token = _serving.set(engine)
    try:
        yield
    finally:
        _serving.reset(token)


def release_current_engine(engine: Any) -> None:
    """This process no longer works for this engine."""
    global _engine
    if _engine is engine:
        _engine = None


def in_worker() -> bool:
    """Whether this process is a worker: it runs jobs and starts no supervisor."""
    return _is_worker


class MainProgramEnds(BaseException):
    """Raised in a worker where the main program that it runs again begins its work."""


_is_main_rerun = _is_left_at_work = False


@contextmanager
def rerunning_main() -> Iterator[None]:
    """A worker runs the main program again inside it, for what it defines."""
    global _is_main_rerun, _is_left_at_work
    _is_main_rerun = True
    try:
        yield
    except MainProgramEnds:
        logger.debug("the main program was left where it begins to enqueue")
    finally:
        _is_main_rerun = _is_left_at_work = False


def leave_main_at_work() -> None:
    """The main program has started an extension outside `if __name__ == "__main__":`.

    In a worker that did nothing, so what it enqueues next must not be enqueued by each worker again: its re-run
    ends there. What it defined until then is what it has.
    """
    global _is_left_at_work
    _is_left_at_work = _is_main_rerun


def refuse_while_importing(call: str) -> None:
    """Raises WrongProcessError while a worker imports its app: every worker would do this once more."""
    if _is_left_at_work:
        raise MainProgramEnds
    if _is_worker and _engine is None:
        raise WrongProcessError(
            f"{call}() was called while a worker process imported the app; workers import the main program too: "
            'put the call under `if __name__ == "__main__":`'
        )


def enter_worker() -> None:
    """Mark this process as a worker, for good. Call it before the app is imported."""
    global _is_worker
    _is_worker = True


def watch_for_copies() -> None:
    """From now on a fork of this process is a copy: made by a handler, and no worker. Call it in a worker, once."""
    os.register_at_fork(after_in_child=_became_copy)


def _became_copy() -> None:
    global _is_copy
    _is_copy = True


def is_copy() -> bool:
    """Whether this process is a fork that a handler made."""
    return _is_copy

"""One start of a job in this process: the worker's executor, with what a supervisor would see of it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from types import FrameType
from typing import Any

import msgspec

from mpdispatch.clock import SECOND_US, Instant
from mpdispatch.engine.engine import Engine
from mpdispatch.execution import event_loop
from mpdispatch.execution.codec import Limits
from mpdispatch.execution.entering import postponed
from mpdispatch.execution.executor import Executor
from mpdispatch.execution.job_context import JobContext
from mpdispatch.execution.middleware import CallNext
from mpdispatch.execution.process_context import running_here
from mpdispatch.model import Answer, ClaimedJob, Outcome, Stream
from mpdispatch.pool.assigned import StopReason
from mpdispatch.pool.outcomes import from_reply
from mpdispatch.store.values import Progress, Reports
from mpdispatch.supervisor.outputs import Outputs

nested: ContextVar[threading.Lock | None] = ContextVar("mpdispatch_testing_nested", default=None)
"""In a handler, and on threads that have its context variables: who holds it may run jobs inside of that handler."""


class Execution:
    """Runs this start, and keeps what the handler reports and raises."""

    def __init__(self, engine: Engine, job: ClaimedJob, now: Instant) -> None:
        config = engine.dispatcher.config
        self._engine, self._job, self._now = engine, job, now
        self._executor = Executor(
            engine.registry,
            limits=Limits(max_payload_bytes=config.max_payload_bytes, max_result_bytes=config.max_result_bytes),
            reporter=self,
            on_start=lambda job_id, starts: None,
            middleware=(self._witness, *engine.telemetry.around_handlers(engine.middleware)),
        )
        self._lock = threading.Lock()
        self._progress: dict[tuple[int, int], Progress] = {}
        self._outputs = Outputs()
        self._is_timed_out = False
        self.raised: BaseException | None = None
        """What came out of the middleware, for the traceback."""

    def _witness(self, job: JobContext, call_next: CallNext) -> Any:
        try:
            return call_next(job)
        except BaseException as error:
            self.raised = error
            raise

    def run(self) -> Outcome:
        """Call the handler, and give its outcome with times by the test's clock. On a thread if a loop runs in this one."""
        # As in a worker, the handler sees no context variables of who enqueued the job.
        context = Context()
        if _is_loop_running():
            answers: list[Answer] = []
            thread = threading.Thread(target=lambda: answers.append(context.run(self._run)))
            thread.start()
            thread.join()
            (answer,) = answers
        else:
            answer = context.run(self._run)
        run = answer.run
        if run is not None:
            run = msgspec.structs.replace(run, started_us=self._now.wall_us)
            answer = msgspec.structs.replace(answer, run=run)
        reason = StopReason.TIMEOUT if self._is_timed_out else None
        return from_reply(answer, reason, self._job.timeout_us)

    def _run(self) -> Answer:
        nested.set(threading.Lock())
        with running_here(self._engine), event_loop.set_aside(), self._timeout():
            return self._executor.run(self._job)

    @contextmanager
    def _timeout(self) -> Iterator[None]:
        """Interrupt the handler after the job's timeout, by the same signal as in a worker. In the main thread only."""
        main = threading.main_thread()
        if self._job.timeout_us is None or threading.current_thread() is not main:
            yield
            return
        target = main.ident
        assert target is not None  # it runs

        def strike() -> None:
            self._is_timed_out = True
            signal.pthread_kill(target, signal.SIGUSR1)

        before = signal.signal(signal.SIGUSR1, self._interrupt)
        timer = threading.Timer(self._job.timeout_us / SECOND_US, strike)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()  # a strike that has begun is over before the handler of the signal is put back
            signal.signal(signal.SIGUSR1, before)

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        if not postponed(signum, frame):
            self._executor.interrupt(self._job.id, self._job.starts, "timeout")

    # -- what the handler reports -----------------------------------------------------------------------

    def progress(self, job_id: int, starts: int, data: bytes) -> None:
        with self._lock:
            self._progress[job_id, starts] = Progress(job_id=job_id, starts=starts, data=data)

    def output(
        self, job_id: int, starts: int, stream: Stream, text: str, written: int, *, is_last: bool
    ) -> None:
        with self._lock:
            self._outputs.add(job_id, starts, stream, text, written, now_us=0)

    def reports(self) -> Reports:
        """All that it has reported."""
        with self._lock:
            ended = [(self._job.id, self._job.starts)]
            return Reports(list(self._progress.values()), self._outputs.due(0, ended))


def _is_loop_running() -> bool:
    """Whether an event loop runs in this thread: another cannot run in it then."""
    if "asyncio" not in sys.modules:
        return False
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True

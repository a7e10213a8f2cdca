"""The worker's main: import the app, then run one job at a time. Runs in the worker process.

It reports outcomes only to its supervisor, and never writes to the store about a job that it runs. If this process ends
early, the supervisor sees that and decides.
"""

from __future__ import annotations

import faulthandler
import logging
import signal
import socket
import sys
import traceback

# Bound here, because a job may replace these functions.
from os import _exit as exit_now
from os import getpid
from time import time_ns
from types import FrameType
from typing import NoReturn

import msgspec

from mpdispatch.clock import boot_us
from mpdispatch.errors import AppImportError, AppReferenceError, DispatchError
from mpdispatch.execution.app_reference import AppEngine
from mpdispatch.execution.codec import Limits
from mpdispatch.execution.descendants import has_children, kill_children
from mpdispatch.execution.entering import postponed
from mpdispatch.execution.executor import Executor
from mpdispatch.execution.hygiene import Hygiene
from mpdispatch.execution.loading import complete_logging, load
from mpdispatch.execution.process_context import set_current_engine, watch_for_copies
from mpdispatch.execution.usage import BRIEF_US, EVERY
from mpdispatch.fstext import unpacked
from mpdispatch.host.linux import become_subreaper, give_back_memory, set_oom_score
from mpdispatch.host.worker_record import WorkerRecord
from mpdispatch.model import COMMAND_JOB, Answer, Completed, ErrorInfo, Raised, Run, Stream
from mpdispatch.pool import frames
from mpdispatch.pool.channel import EXIT_CHANNEL_LOST, Channel, ChannelBroken
from mpdispatch.pool.fork_safety import fork_hazards, open_descriptors
from mpdispatch.pool.job_channel import JobReceiver
from mpdispatch.pool.job_frames import UnreadableJob
from mpdispatch.pool.permits import StartPermits
from mpdispatch.pool.replies import ReplyWriter
from mpdispatch.pool.sigterm import leave_sigterm_to_supervisor, restore_sigterm_in_forks
from mpdispatch.pool.started import Ties, receive, settle_in, ties_of_exec

_log = logging.getLogger("mpdispatch.worker")

EXIT_BOOT_FAILED = 3


def main() -> NoReturn:
    """Entry point of a process started by `exec.launch`."""
    serve(ties_of_exec())


def serve(ties: Ties, app: AppEngine | None = None) -> NoReturn:
    """Be a worker until a Stop comes. `app` is given if this process was forked with the app imported."""
    channel = Channel(socket.socket(fileno=ties.channel_fd))
    permits = None if ties.permits_fd < 0 else StartPermits(ties.permits_fd)
    _settle_in(ties)
    try:
        _serve(channel, permits, app)
    except ChannelBroken:
        _leave(EXIT_CHANNEL_LOST)
    except BaseException:  # noqa: BLE001 - sys.exit would wait for threads that a handler left
        traceback.print_exc()
        _leave(1)
    _leave(0)


def _leave(status: int) -> NoReturn:
    """End without finalisers: threads and atexit hooks that a handler left must not delay the end."""
    _flush_output()
    exit_now(status)


def _flush_output() -> bool:
    """Flush what a handler printed, in case this process is killed next. False: a stream is closed."""
    is_open = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except ValueError:
            is_open = False
        except (OSError, AttributeError):
            continue  # it has no reader, or does not exist
    return is_open


def _settle_in(ties: Ties) -> None:
    settle_in(ties)
    restore_sigterm_in_forks()
    become_subreaper()
    set_oom_score(500)
    if sys.stderr is not None:  # it is None if the host process had closed descriptor 2
        faulthandler.enable()
        faulthandler.register(signal.SIGUSR2, all_threads=True)
    watch_for_copies()


def _serve(channel: Channel, permits: StartPermits | None, app: AppEngine | None) -> None:
    boot = frames.decode_boot(receive(channel))
    try:
        hazards: tuple[str, ...] = ()
        if app is None:
            before = open_descriptors()
            app = load(boot.app)
            leave_sigterm_to_supervisor()
            hazards = tuple(fork_hazards(before))
            give_back_memory()
        complete_logging(boot.log_level)
        description = app.describe()
        if description.config.start_method == "spawn":
            hazards = ("start_method is 'spawn'",)
    except DispatchError as error:
        reason = error.reason if isinstance(error, (AppImportError, AppReferenceError)) else str(error)
        _give_up(channel, reason, error.traceback if isinstance(error, AppImportError) else "")
    channel.send(frames.encode(frames.WorkerReady(pid=getpid(), app=description, hazards=hazards)), wait=True)

    attach = frames.decode_attach(receive(channel))
    if attach.store is not None:
        app.use_store(attach.store)
    set_current_engine(app)
    try:
        record = WorkerRecord.attach(unpacked(attach.journal_path), attach.record)
    except OSError as error:  # the folder has become writable by others, or the file is gone
        _give_up(channel, f"the start journal cannot be opened: {error}")
    _Loop(channel, permits, attach, app, record).run()
    # Here, because this process ends without exit handlers.
    app.telemetry.flush()


def _give_up(channel: Channel, reason: str, traceback: str = "") -> NoReturn:
    channel.send(frames.encode(frames.BootFailed(reason=reason, traceback=traceback)), wait=True)
    _leave(EXIT_BOOT_FAILED)


class _Loop:
    """The main loop: receive a job, record its start, run it, reply."""

    def __init__(
        self,
        channel: Channel,
        permits: StartPermits | None,
        attach: frames.Attach,
        app: AppEngine,
        record: WorkerRecord,
    ) -> None:
        self._receiver = JobReceiver(channel, permits, on_rest=self._rest, on_discarded=self._discarded)
        self._record = record
        self._replies = ReplyWriter(channel, record.reply_writer())
        self._kills_children = attach.kills_children
        self._pid = getpid()
        middleware = app.telemetry.around_handlers(app.middleware)
        self._executor = Executor(
            app.registry,
            limits=Limits(max_payload_bytes=attach.max_payload_bytes, max_result_bytes=attach.max_result_bytes),
            reporter=self,
            on_start=self._mark,
            middleware=middleware,
        )
        # A command job runs no code of the app in this process, unless a middleware is around it.
        self._changes_nothing = "" if middleware else COMMAND_JOB
        app.hooks.route(self._note)
        signal.signal(signal.SIGUSR1, self._interrupt)
        self._hygiene = Hygiene()
        self._has_output = _flush_output()
        self._unchecked = 0
        """Brief jobs since the last full check for processes and changes that they left."""

    def run(self) -> None:
        while (job := self._receiver.next()) is not None:
            if isinstance(job, UnreadableJob):
                outcome: Answer = self._refused(job)
            else:
                outcome = self._executor.run(job, job.reference)
            if getpid() != self._pid:
                # A fork made by the handler returned to this loop. It must not reply in our name.
                exit_now(EXIT_CHANNEL_LOST)
            if isinstance(outcome, Completed):
                answer = frames.encode(
                    frames.Done(job.id, job.starts, outcome.run, msgspec.Raw(outcome.result))
                )
            else:
                answer = frames.encode(frames.Ended(job.id, job.starts, outcome))
            run = outcome.run
            self._answer(answer, (run and run.duration_us) or 0, job.name)

    def _answer(self, answer: bytes, duration_us: int, name: str) -> None:
        """Clean up after the handler, then reply: the processes that it left end before its outcome counts."""
        reasons: list[str] = []
        # A brief job cannot have started a process. So the check runs only now and then, and always before an idle wait.
        self._unchecked = self._unchecked + 1 if duration_us < BRIEF_US and self._unchecked < EVERY else 0
        if not self._unchecked:
            self._end_children(reasons)
        if changed := self._hygiene.restore(
            was_brief=self._unchecked > 0 or name == self._changes_nothing,
            goes_on=self._receiver.has_next(name),
        ):
            _log.debug("put back what a job changed", extra={"changed": ", ".join(changed)})
        if not _flush_output() and self._has_output:
            reasons.append("sys.stdout or sys.stderr was closed")
        reasons += self._hygiene.recycle_reasons + self._executor.recycle_reasons
        if reasons:
            self._receiver.shut()
        # First, because a job that closed our descriptors must not count as done. Incoming frames are not read before
        # the reply is written: they may be junk, and this job has ended.
        self._receiver.check()
        self._replies.write(answer, is_urgent=False)
        if reasons:
            self._replies.write(frames.encode(frames.NeedsReplacement("; ".join(reasons))), is_urgent=True)

    def _refused(self, job: UnreadableJob) -> Raised:
        """The outcome of a job whose row cannot be read, by this worker or any other."""
        self._mark(job.id, job.starts)
        error = ErrorInfo(
            type="UnreadableJob", message=f"job {job.id}: its row in the store cannot be read: {job.why}"
        )
        run = Run(started_us=time_ns() // 1000, duration_us=0, worker_pid=self._pid)
        return Raised(run=run, error=error, is_retryable=False)

    def _rest(self) -> None:
        self._catch_up()
        self._replies.flush()

    def _discarded(self, count: int) -> None:
        self._catch_up()
        self._replies.write(frames.encode(frames.Discarded(count)), is_urgent=True)

    def _catch_up(self) -> None:
        """Run the full check that was skipped after brief jobs, because another handler or an idle wait comes next."""
        if not self._unchecked:
            return
        self._unchecked = 0
        reasons: list[str] = []
        self._end_children(reasons)
        self._hygiene.restore()
        if reasons := reasons + self._hygiene.recycle_reasons:
            self._receiver.shut()
            self._replies.write(frames.encode(frames.NeedsReplacement("; ".join(reasons))), is_urgent=True)

    def _end_children(self, reasons: list[str]) -> None:
        if self._kills_children and has_children():
            kill_children()
            if has_children():
                reasons.append("processes left behind do not end")

    def _mark(self, job_id: int, starts: int) -> None:
        self._record.write(job_id, starts, boot_us())

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        """SIGUSR1: interrupt the start that the control word names, and no other."""
        if postponed(signum, frame):
            return
        job_id, starts, kind = self._record.asked()
        self._executor.interrupt(job_id, starts, "timeout" if kind == 1 else "cancel")

    def _note(self, events: bytes, count: int) -> None:
        self._replies.write(frames.encode(frames.EnqueuedEvents(msgspec.Raw(events), count)), is_urgent=True)

    def output(
        self, job_id: int, starts: int, stream: Stream, text: str, written: int, *, is_last: bool
    ) -> None:
        frame = frames.encode(frames.Wrote(job_id, starts, stream, text, written))
        self._replies.write(frame, is_urgent=not is_last)

    def progress(self, job_id: int, starts: int, data: bytes) -> None:
        self._replies.write(
            frames.encode(frames.ProgressReport(job_id, starts, msgspec.Raw(data))), is_urgent=True
        )

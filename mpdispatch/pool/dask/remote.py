"""What runs in a worker process of the cluster: imports the app, runs one job at a time, ends it when asked.

`boot` and `run` are tasks of dask, in a thread; `interrupt` and `revoke` run on the dask worker's event loop, `kill` in
its nanny, which is a process of its own, and `forget` in dask's scheduler, which imports this module to send tasks on.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from dataclasses import dataclass
from time import time_ns
from typing import Any

import msgspec
from distributed import get_worker

from mpdispatch.errors import (
    AppImportError,
    AppReferenceError,
    DispatchError,
    JobCancelled,
    JobInterrupt,
    JobTimeout,
)
from mpdispatch.execution.app_reference import AppEngine, AppReference
from mpdispatch.execution.codec import Limits, error_info
from mpdispatch.execution.executor import Executor, InterruptKind
from mpdispatch.execution.loading import complete_logging, load
from mpdispatch.execution.process_context import enter_worker, set_current_engine
from mpdispatch.fstext import packed, unpacked
from mpdispatch.model import Answer, Completed, Raised, Run, Stream
from mpdispatch.pool import frames
from mpdispatch.pool.dask.messages import NOT_BEGUN, Began, encode_booted
from mpdispatch.pool.job_frames import RunJob, decode_jobs
from mpdispatch.version import __version__

_PROCESS = os.urandom(8).hex()
"""Names this process. A task that names another one came here by a restart, and must not run."""
_LOOK_S = 0.25
"""How often to look whether the task of a running job is still wanted: the supervisor may be gone."""
_OVER = ("closing", "closed", "failed")
"""Of a dask worker that has lost its scheduler, or is ended."""
_REVOKED_KEPT = 10_000


@dataclass(slots=True, eq=False)
class _Running:
    """The job that runs in this process."""

    token: str
    id: int
    starts: int
    key: str
    """Of its dask task."""
    thread: int
    executor: Executor | None = None
    asked: InterruptKind | None = None
    """The interrupt that came before there was an executor."""


@dataclass(slots=True)
class _App:
    """An app that this process has imported."""

    engine: AppEngine
    own_store: str
    store: str
    """Into which it enqueues now: supervisors of several stores may use the same app here."""


class _Process:
    """What this process knows: its apps, and its one running job. `lock` guards the latter."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.apps: dict[bytes, _App] = {}
        self.boot_lock = threading.Lock()
        self.running: _Running | None = None
        self.begun: dict[tuple[str, int, int], None] = {}
        """Starts that were begun or revoked here, the last ones: none begins again."""
        self.watcher: threading.Thread | None = None


class _Reporter:
    """Sends what a handler reports to the supervisor, as an event of dask; the last output goes with the answer."""

    def __init__(self, topic: str) -> None:
        self._topic, self._worker = topic, get_worker()  # here: a thread of the handler cannot ask for it
        self.last: list[bytes] = []

    def send(self, frame: bytes) -> None:
        self._worker.log_event(self._topic, frame)

    def progress(self, job_id: int, starts: int, data: bytes) -> None:
        self.send(frames.encode(frames.ProgressReport(job_id, starts, msgspec.Raw(data))))

    def output(
        self, job_id: int, starts: int, stream: Stream, text: str, written: int, *, is_last: bool
    ) -> None:
        frame = frames.encode(frames.Wrote(job_id, starts, stream, text, written))
        if is_last:
            self.last.append(frame)
        else:
            self.send(frame)

    def enqueued(self, events: bytes, count: int) -> None:
        self.send(frames.encode(frames.EnqueuedEvents(msgspec.Raw(events), count)))


_process = _Process()


def boot(version: str, frame: bytes) -> bytes:
    """Import the app of this Boot frame, unless this process has it; gives a `Booted`."""
    with _process.boot_lock:
        return encode_booted(_PROCESS, frames.encode(_booted(version, frame)))


def _booted(version: str, frame: bytes) -> frames.WorkerReady | frames.BootFailed:
    if version != __version__:
        return frames.BootFailed(
            reason=f"the supervisor runs mpdispatch {version}, the cluster {__version__}; install one version",
            traceback="",
        )
    try:
        app = _process.apps.get(frame)
        if app is None:
            asked = frames.decode_boot(frame)
            enter_worker()
            engine = load(_as_found_here(asked.app))
            complete_logging(asked.log_level)
            store = engine.describe().store
            app = _process.apps[frame] = _App(engine, own_store=store, store=store)
        return frames.WorkerReady(pid=os.getpid(), app=app.engine.describe())
    except DispatchError as error:
        reason = error.reason if isinstance(error, (AppImportError, AppReferenceError)) else str(error)
        traceback = error.traceback if isinstance(error, AppImportError) else ""
        return frames.BootFailed(reason=reason, traceback=traceback)


def _as_found_here(reference: AppReference) -> AppReference:
    """Look in the supervisor's folders too, as far as they exist here, and after our own; keep our arguments."""
    ours = [path for path in sys.path if isinstance(path, str)]
    theirs = [path for path in map(unpacked, reference.sys_path) if path not in ours and os.path.exists(path)]
    has_folder = reference.cwd is not None and os.path.isdir(unpacked(reference.cwd))
    return msgspec.structs.replace(
        reference,
        sys_path=tuple(map(packed, [*ours, *theirs])),
        cwd=reference.cwd if has_folder else None,
        argv=(),
    )


def run(
    process: str, token: str, topic: str, key: str, boot_frame: bytes, attach_frame: bytes, job_frame: bytes
) -> bytes:
    """Run a job in this thread; gives lines of messages, its answer among them, or `NOT_BEGUN`.

    `process`: the one that has imported the app by `boot_frame`. `token`: of the supervisor's registration. `topic`:
    where it hears what the job reports.
    """
    job = decode_jobs(job_frame)[0]
    app = _process.apps.get(boot_frame)
    running = _Running(token, job.id, job.starts, key, threading.get_ident())
    if process != _PROCESS or app is None or not _may_begin(running):
        return NOT_BEGUN
    _watch()
    reporter = _Reporter(topic)
    answer: Answer
    try:
        reporter.send(frames.encode(Began(job.id, job.starts)))
        if isinstance(job, RunJob):
            executor = _executor(app, attach_frame, reporter)
            with _process.lock:
                running.executor = executor
                if running.asked is not None:
                    executor.interrupt_thread(job.id, job.starts, running.asked, strike=lambda: None)
            answer = executor.run(job, job.reference)
        else:
            text = f"job {job.id}: its row in the store cannot be read: {job.why}"
            answer = _raised(Exception(text), is_retryable=False)
    except BaseException as stray:  # noqa: BLE001 - an interrupt that came late strikes in our own code
        answer = _raised(stray, is_retryable=True)
    _end()
    lines = [*reporter.last, _frame_of(job.id, job.starts, answer)]
    if running.executor is not None and (reasons := running.executor.recycle_reasons):
        lines.append(frames.encode(frames.NeedsReplacement("; ".join(reasons))))
    return b"\n".join(lines)


def _raised(error: BaseException, *, is_retryable: bool) -> Raised:
    run = Run(started_us=time_ns() // 1000, worker_pid=os.getpid())
    return Raised(run=run, error=error_info(error), is_retryable=is_retryable)


def _frame_of(job_id: int, starts: int, answer: Answer) -> bytes:
    if isinstance(answer, Completed):
        return frames.encode(frames.Done(job_id, starts, answer.run, msgspec.Raw(answer.result)))
    return frames.encode(frames.Ended(job_id, starts, answer))


def _executor(app: _App, attach_frame: bytes, reporter: _Reporter) -> Executor:
    attach, engine = frames.decode_attach(attach_frame), app.engine
    store = attach.store or app.own_store
    if store != app.store:
        set_current_engine(None)  # a handler may not do what follows
        engine.use_store(store)
        app.store = store
    set_current_engine(engine)
    engine.hooks.route(reporter.enqueued)
    return Executor(
        engine.registry,
        limits=Limits(max_payload_bytes=attach.max_payload_bytes, max_result_bytes=attach.max_result_bytes),
        reporter=reporter,
        on_start=lambda job_id, starts: None,
        middleware=engine.telemetry.around_handlers(engine.middleware),
    )


def _may_begin(wanted: _Running) -> bool:
    start = (wanted.token, wanted.id, wanted.starts)
    with _process.lock:
        if _process.running is not None or start in _process.begun:
            return False
        _remember(start)
        _process.running = wanted
        return True


def _remember(start: tuple[str, int, int]) -> None:
    """Never begin this start from now on. Call it with the lock."""
    begun = _process.begun
    begun[start] = None
    if len(begun) > _REVOKED_KEPT:
        del begun[next(iter(begun))]


def _end() -> None:
    """No interrupt of this job may strike from now on."""
    while True:
        try:
            with _process.lock:
                _process.running = None
                _raise_in(threading.get_ident(), None)
            return
        except JobInterrupt:
            continue


def revoke(token: str, job_id: int, starts: int) -> bool:
    """Never begin this start. False: it has begun, and its answer comes, or has come."""
    start = (token, job_id, starts)
    with _process.lock:
        has_begun = start in _process.begun
        _remember(start)
        return not has_begun


def _start_of(running: _Running) -> tuple[str, int, int]:
    return running.token, running.id, running.starts


def interrupt(token: str, job_id: int, starts: int, is_timeout: bool) -> None:
    """Raise JobTimeout or JobCancelled in the handler, if that very start is running."""
    with _process.lock:
        running = _process.running
        if running is None or _start_of(running) != (token, job_id, starts):
            return
        error = JobTimeout if is_timeout else JobCancelled
        kind: InterruptKind = "timeout" if is_timeout else "cancel"
        if running.executor is None:
            running.asked = kind
            return
        running.executor.interrupt_thread(job_id, starts, kind, strike=lambda: _raise_in(running.thread, error))


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Have the interpreter raise this in the thread, at its next instruction of Python; None: no longer."""
    thing = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), thing)


def _watch() -> None:
    """End a job by itself whose task is not wanted any more: dask forgets the tasks of a client that is gone."""
    if _process.watcher is None:
        _process.watcher = threading.Thread(
            target=_look, args=(get_worker(),), name="mpdispatch-watch", daemon=True
        )
        _process.watcher.start()


def _look(worker: Any) -> None:
    event, told = threading.Event(), ""
    while not event.wait(_LOOK_S):
        if (running := _process.running) is None or running.key == told:
            continue
        task = worker.state.tasks.get(running.key)
        if task is None or task.state == "cancelled" or worker.status.name in _OVER:
            told = running.key
            interrupt(running.token, running.id, running.starts, is_timeout=False)


def forget(topic: str, dask_scheduler: Any) -> None:
    """In the scheduler: drop the events of this topic, which were told. It would keep 100,000 of them."""
    broker = getattr(dask_scheduler, "_broker", None)  # dask has no public name for it
    if broker is not None:
        broker.truncate(topic)


def kill(dask_worker: Any) -> bool:
    """In the nanny: SIGKILL its worker. The nanny starts another one."""
    if (pid := dask_worker.pid) is not None:
        os.kill(pid, signal.SIGKILL)
    return True

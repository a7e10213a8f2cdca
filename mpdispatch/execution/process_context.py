"""The context of the running code: whether this is a worker, and its current job and engine. Process-wide.

A worker runs one job at a time, so the current job is a plain global, which threads of a handler see too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from mpdispatch.errors import DispatchError, WrongProcessError

if TYPE_CHECKING:  # it imports what only a worker needs
    from mpdispatch.execution.job_context import JobContext

_current: JobContext | None = None
_engine: Any = None
_serving: ContextVar[Any] = ContextVar("mpdispatch_engine", default=None)
_is_worker = False
_is_copy = False


def current_job() -> JobContext:
    """The job that is running: its facts, and `progress(...)` and `log(...)`. For use in a handler.

    Raises DispatchError: no job is running here.
    """
    if _current is None:
        raise DispatchError("current_job() works only inside a handler while a worker runs its job")
    return _current


def set_current_job(context: JobContext | None) -> None:
    """Called by the executor, before and after each job."""
    global _current
    _current = context


def current_engine() -> Any:
    """The engine of the running handler, or of the app that serves the current request.

    Raises DispatchError: there is none here.
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
    """Set the engine that this process works for."""
    global _engine
    _engine = engine


@contextmanager
def serving(engine: Any) -> Iterator[None]:
    """Inside it, `current_engine()` gives this engine. A process may serve several apps, each with its own."""
    token = _serving.set(engine)
    try:
        yield
    finally:
        _serving.reset(token)


@contextmanager
def running_here(engine: Any) -> Iterator[None]:
    """Inside it, this process runs a job of this engine, though it is no worker. Jobs may be inside of each other.

    `current_engine()` gives this engine in all threads (None: the one it gave before). What `current_job()` gave before
    is put back at the end.
    """
    global _engine
    job_before, engine_before = _current, _engine
    _engine = engine_before if engine is None else engine
    try:
        with serving(_serving.get() if engine is None else engine):
            yield
    finally:
        set_current_job(job_before)
        _engine = engine_before


def release_current_engine(engine: Any) -> None:
    """Unset the engine of this process, if it is this one."""
    global _engine
    if _engine is engine:
        _engine = None


def in_worker() -> bool:
    """Whether this process is a worker: it runs jobs and starts no supervisor."""
    return _is_worker


class MainProgramEnds(BaseException):
    """Raised in a worker that runs the main program again, where that begins its real work."""


_is_main_rerun = _is_rerun_over = False


@contextmanager
def rerunning_main() -> Iterator[None]:
    """Inside it, a worker runs the main program again, for its definitions."""
    global _is_main_rerun, _is_rerun_over
    _is_main_rerun = True
    try:
        yield
    except MainProgramEnds:
        import logging

        logging.getLogger("mpdispatch.job").debug("the main program was left where it begins to enqueue")
    finally:
        _is_main_rerun = _is_rerun_over = False


def stop_main_rerun() -> None:
    """Called where the main program starts an extension outside of `if __name__ == "__main__":`.

    In a worker, starting one does nothing. The main program would go on and enqueue its jobs once more in each worker,
    so its re-run ends at its next enqueue. The worker has what was defined until then.
    """
    global _is_rerun_over
    _is_rerun_over = _is_main_rerun


def refuse_while_importing(call: str) -> None:
    """Raises WrongProcessError while a worker imports its app, because every worker would make this call."""
    if _is_rerun_over:
        raise MainProgramEnds
    if _is_worker and _engine is None:
        raise WrongProcessError(
            f"{call}() was called while a worker process imported the app; workers import the main program too: "
            'put the call under `if __name__ == "__main__":`'
        )


def refuse_in_handler(call: str) -> None:
    """Raises WrongProcessError in a worker that has imported its app."""
    if _is_worker and _engine is not None:
        raise WrongProcessError(
            f"{call}() was called in a handler; a worker's jobs go into the store of its supervisor. For another one:"
            " Engine.open(...)"
        )


def enter_worker() -> None:
    """Mark this process as a worker, for good. Call it before the app is imported."""
    global _is_worker
    _is_worker = True


def watch_for_copies() -> None:
    """Recognise forks that handlers make: they are copies and no workers. Call it in a worker, once."""
    os.register_at_fork(after_in_child=_became_copy)


def _became_copy() -> None:
    global _is_copy
    _is_copy = True
    if _current is not None:
        _current.after_fork()


def is_copy() -> bool:
    """Whether this process is a fork made by a handler."""
    return _is_copy

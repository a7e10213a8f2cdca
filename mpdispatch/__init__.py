"""Durable background jobs for one machine that just work.

    from mpdispatch import Engine, current_job

    engine = Engine.open("jobs.db", concurrency=4)

    @engine.job(max_retries=5, timeout=60)
    def render(path: str, dpi: int = 300) -> dict:
        current_job().progress(1, total=2)
        ...

    job = render.enqueue("a.pdf", dpi=600)      # on disk when it returns
    with engine.dispatcher:                     # or `mpdispatch supervise module:engine` in a shell
        print(job.wait())                       # what render returned

What people use:

    Engine              handlers and their jobs: job, enqueue, batch, map, wait, as_completed, retry, cancel …
    Dispatcher          runs the jobs of an engine: start and stop, or run
    Config              every setting with its default; QueueConfig: the limits of a queue
    current_job         in a handler: the JobContext of the job it runs (progress, log, deadline …)
    current_engine      in a handler: the engine it belongs to
    Retry, Snooze, Cancel   raised in a handler: try again, run later, give up
    job                 makes a handler that an engine takes in later, by engine.register
    Job, JobState, Batch, BatchInfo, DeadLetter, ErrorInfo   what an engine gives
    SQLiteStore, open_store   where jobs are kept
    backoff, middleware, hooks   when to try again; code around every handler; to be told what happened
    testing             for the tests of an app: jobs run in the test's process, on a store and a clock of its own

Every error of a call is a DispatchError and can be imported from here; help(mpdispatch.errors) lists them. All else is
loaded on first use, so importing this package is quick.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from mpdispatch import errors
from mpdispatch.errors import *

if sys.platform == "win32":
    raise PlatformError(  # noqa: F405
        "mpdispatch needs Linux or macOS: worker processes there are ended and watched by Unix means"
    )

if TYPE_CHECKING:
    from mpdispatch import backoff as backoff
    from mpdispatch import hooks as hooks
    from mpdispatch import middleware as middleware
    from mpdispatch import testing as testing
    from mpdispatch.config import Config as Config
    from mpdispatch.config import QueueConfig as QueueConfig
    from mpdispatch.dispatcher import Dispatcher as Dispatcher
    from mpdispatch.engine import Batch as Batch
    from mpdispatch.engine import Engine as Engine
    from mpdispatch.engine import job as job
    from mpdispatch.execution.process_context import current_engine as current_engine
    from mpdispatch.execution.process_context import current_job as current_job
    from mpdispatch.model import BatchInfo as BatchInfo
    from mpdispatch.model import DeadLetter as DeadLetter
    from mpdispatch.model import ErrorInfo as ErrorInfo
    from mpdispatch.model import Job as Job
    from mpdispatch.model import JobState as JobState
    from mpdispatch.store import SQLiteStore as SQLiteStore
    from mpdispatch.store import open_store as open_store

_HOMES = {
    **dict.fromkeys(("Config", "QueueConfig"), "config"),
    "Dispatcher": "dispatcher",
    **dict.fromkeys(("Batch", "Engine", "job"), "engine"),
    **dict.fromkeys(("current_engine", "current_job"), "execution.process_context"),
    **dict.fromkeys(("BatchInfo", "DeadLetter", "ErrorInfo", "Job", "JobState"), "model"),
    **dict.fromkeys(("SQLiteStore", "open_store"), "store"),
}
"""Where the names that are not in `errors` live."""
_MODULES = frozenset({"backoff", "hooks", "middleware", "testing"})

if not TYPE_CHECKING:  # type checkers have the imports above; they understand no computed list
    __all__ = [name for names in (_HOMES, _MODULES, errors.__all__) for name in sorted(names)]

    def __getattr__(name: str) -> Any:
        """Load a public name (PEP 562)."""
        if name in _MODULES:
            return importlib.import_module(f"mpdispatch.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module 'mpdispatch' has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(f"mpdispatch.{_HOMES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        """What `help` shows and a shell completes: what people use. All of `__all__` can be imported."""
        return sorted(
            {*globals(), *__all__} - {*errors.__all__} | {"Cancel", "DispatchError", "Retry", "Snooze"}
        )

"""Durable background jobs for one machine that just work.

    engine = Engine.open("jobs.db")

    @engine.job
    def render(path: str, dpi: int = 300) -> dict: ...

    render.enqueue("a.pdf", dpi=600)

Importing this loads nothing yet: each name is loaded on first use (a command line that only shows its help, and
a worker that runs a small app, are up several times sooner), and what supervises with `Dispatcher.start` or `run`.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if sys.platform == "win32":
    from mpdispatch.errors import PlatformError

    raise PlatformError(
        "mpdispatch needs Linux or macOS: worker processes there are ended and watched by Unix means"
    )

if TYPE_CHECKING:
    from mpdispatch import backoff, hooks, middleware
    from mpdispatch.config import Config, QueueConfig
    from mpdispatch.dispatcher import Dispatcher
    from mpdispatch.engine import Batch, Engine, job
    from mpdispatch.errors import (
        AppImportError,
        AppReferenceError,
        BatchError,
        Cancel,
        CommandFailedError,
        ConfigError,
        DeadLetterNotFoundError,
        DispatchError,
        DuplicateJobError,
        Fault,
        InvalidStateError,
        JobCancelled,
        JobCancelledError,
        JobFailedError,
        JobInterrupt,
        JobNotFoundError,
        JobTimeout,
        LeaseLostError,
        NoStoreError,
        PayloadError,
        PlatformError,
        RegistrationError,
        ResultError,
        Retry,
        Snooze,
        StoreBusy,
        StoreCannotCreate,
        StoreCorrupt,
        StoreError,
        StoreForeign,
        StoreFull,
        StoreIOError,
        StoreMissing,
        StoreNotShared,
        StoreNotUTF8,
        StorePermission,
        StoreTooNew,
        StoreTooOld,
        StoreVanished,
        UnknownJobError,
        UsageError,
        WaitTimeoutError,
        WrongProcessError,
    )
    from mpdispatch.execution.process_context import current_engine, current_job
    from mpdispatch.model import DeadLetter, ErrorInfo, Job, JobState
    from mpdispatch.store import SQLiteStore, open_store

_HOMES = {
    **dict.fromkeys(("Config", "QueueConfig"), "config"),
    "Dispatcher": "dispatcher",
    **dict.fromkeys(("Batch", "Engine", "job"), "engine"),
    **dict.fromkeys(("current_engine", "current_job"), "execution.process_context"),
    **dict.fromkeys(("DeadLetter", "ErrorInfo", "Job", "JobState"), "model"),
    **dict.fromkeys(("SQLiteStore", "open_store"), "store"),
}
"""Where the names that are no errors live."""
_MODULES = frozenset({"backoff", "hooks", "middleware"})

__all__ = [
    "AppImportError",
    "AppReferenceError",
    "Batch",
    "BatchError",
    "Cancel",
    "CommandFailedError",
    "Config",
    "ConfigError",
    "DeadLetter",
    "DeadLetterNotFoundError",
    "DispatchError",
    "Dispatcher",
    "DuplicateJobError",
    "Engine",
    "ErrorInfo",
    "Fault",
    "InvalidStateError",
    "Job",
    "JobCancelled",
    "JobCancelledError",
    "JobFailedError",
    "JobInterrupt",
    "JobNotFoundError",
    "JobState",
    "JobTimeout",
    "LeaseLostError",
    "NoStoreError",
    "PayloadError",
    "PlatformError",
    "QueueConfig",
    "RegistrationError",
    "ResultError",
    "Retry",
    "SQLiteStore",
    "Snooze",
    "StoreBusy",
    "StoreCannotCreate",
    "StoreCorrupt",
    "StoreError",
    "StoreForeign",
    "StoreFull",
    "StoreIOError",
    "StoreMissing",
    "StoreNotShared",
    "StoreNotUTF8",
    "StorePermission",
    "StoreTooNew",
    "StoreTooOld",
    "StoreVanished",
    "UnknownJobError",
    "UsageError",
    "WaitTimeoutError",
    "WrongProcessError",
    "backoff",
    "current_engine",
    "current_job",
    "hooks",
    "job",
    "middleware",
    "open_store",
]


def __getattr__(name: str) -> Any:
    """Load a public name (PEP 562)."""
    if name in _MODULES:
        return importlib.import_module(f"mpdispatch.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'mpdispatch' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mpdispatch.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

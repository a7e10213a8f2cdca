"""Durable background jobs for one machine that just work.

    engine = Engine.open("jobs.db")

    @engine.job
    def render(path: str, dpi: int = 300) -> dict: ...

    render.enqueue("a.pdf", dpi=600)

Importing this loads nothing that supervises: that comes with `Dispatcher.start` or `run`.
"""

import sys

if sys.platform == "win32":
    from mpdispatch.errors import PlatformError

    raise PlatformError(
        "mpdispatch needs Linux or macOS: worker processes there are ended and watched by Unix means"
    )

from mpdispatch import backoff
from mpdispatch.config import Config, QueueConfig
from mpdispatch.dispatcher import Dispatcher
from mpdispatch.engine import Batch, Engine, job
from mpdispatch.errors import (
    AppImportError,
    AppReferenceError,
    BatchError,
    Cancel,
    ConfigError,
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
    StorePermission,
    StoreTooNew,
    StoreTooOld,
    StoreVanished,
    UnknownJobError,
    UsageError,
    WaitTimeoutError,
    WrongProcessError,
)
from mpdispatch.execution.context import current_engine, current_job
from mpdispatch.model import ErrorInfo, Job, JobState
from mpdispatch.store import SQLiteStore, open_store

__all__ = [
    "AppImportError",
    "AppReferenceError",
    "Batch",
    "BatchError",
    "Cancel",
    "Config",
    "ConfigError",
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
    "job",
    "open_store",
]

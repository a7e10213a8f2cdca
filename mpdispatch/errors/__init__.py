"""Every error a user of mpdispatch can meet, in one tree under `DispatchError`. Ground: imports only the clock.

    base ◀── jobs      a job, its handler, the app
         ◀── store     a store
    steering           Retry, Snooze, Cancel, which a handler raises; JobTimeout, JobCancelled, raised inside one

An error carries its facts as attributes and builds its text from them: what happened, to which thing, and what to do.
`exit_code` is what the command line exits with (sysexits.h where it has one).
"""

from mpdispatch.errors.base import (
    ConfigError,
    DispatchError,
    Fault,
    NoStoreError,
    PlatformError,
    UsageError,
)
from mpdispatch.errors.jobs import (
    AppImportError,
    AppReferenceError,
    BatchError,
    CommandFailedError,
    DeadLetterNotFoundError,
    DuplicateJobError,
    InvalidStateError,
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    PayloadError,
    RegistrationError,
    ResultError,
    UnknownJobError,
    WaitTimeoutError,
    WrongProcessError,
)
from mpdispatch.errors.steering import (
    Cancel,
    JobCancelled,
    JobInterrupt,
    JobTimeout,
    Retry,
    Snooze,
)
from mpdispatch.errors.store import (
    LeaseLostError,
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
)

__all__ = [
    "AppImportError",
    "AppReferenceError",
    "BatchError",
    "Cancel",
    "CommandFailedError",
    "ConfigError",
    "DeadLetterNotFoundError",
    "DispatchError",
    "DuplicateJobError",
    "Fault",
    "InvalidStateError",
    "JobCancelled",
    "JobCancelledError",
    "JobFailedError",
    "JobInterrupt",
    "JobNotFoundError",
    "JobTimeout",
    "LeaseLostError",
    "NoStoreError",
    "PayloadError",
    "PlatformError",
    "RegistrationError",
    "ResultError",
    "Retry",
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
]

# The type of an error is kept with its job and shown to people: by the name it is imported from.
for _name in __all__:
    globals()[_name].__module__ = __name__

"""Every error a user of mpdispatch can meet, in one tree under `DispatchError`. Ground: imports only the clock.

An error carries its facts as attributes and builds its text from them: what happened, to which
thing, and what to do. `exit_code` is what the command line exits with (sysexits.h where it has one).

The exceptions a *handler* raises to steer its job (`Retry`, `Snooze`, `Cancel`) and those the
supervisor raises *inside* a handler (`JobTimeout`, `JobCancelled`) are here too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from mpdispatch.clock import seconds_of_text

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


class DispatchError(Exception):
    """The root of every error mpdispatch raises on purpose."""

    exit_code: ClassVar[int] = 1


# ---------------------------------------------------------------- configuration


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a configuration or a payload: where (a dotted key) and what."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


class ConfigError(DispatchError):
    """A configuration is wrong. `faults` holds everything wrong with it, not just the first thing."""

    exit_code = 78

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(faults)
        super().__init__("; ".join(map(str, self.faults)))


class NoStoreError(ConfigError):
    """A Dispatcher was made without a store; it has nowhere to keep its jobs."""

    def __init__(self) -> None:
        super().__init__([Fault("store", "is required, for example Dispatcher(store=SQLiteStore('jobs.db'))")])


class PlatformError(DispatchError):
    """mpdispatch does not run on this operating system."""

    exit_code = 69


class UsageError(DispatchError):
    """An argument of a call is out of its range or of the wrong kind."""

    exit_code = 2


# ---------------------------------------------------------------- jobs and apps


class RegistrationError(DispatchError):
    """A function cannot become a handler (its signature, name or options do not allow it)."""

    exit_code = 2


class DuplicateJobError(RegistrationError):
    """Two handlers claim the same job name."""

    def __init__(self, name: str, first: str, second: str) -> None:
        self.name, self.first, self.second = name, first, second
        other = "another function of that name" if first == second else second
        super().__init__(f"job name {name!r} is taken by {first}; {other} needs a name= of its own")


class UnknownJobError(DispatchError):
    """No handler is registered under this name."""

    exit_code = 2

    def __init__(self, name: str, *, known: Sequence[str], where: str = "this engine") -> None:
        self.name, self.known = name, tuple(known)
        from difflib import get_close_matches  # 10 ms that only this error needs

        text = str(name)[:200]  # whoever asks for one may give a megabyte
        near = get_close_matches(text, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        names = ", ".join(sorted(known)) or "none"
        super().__init__(f"no handler {text!r} in {where}; {hint}registered: {names}")


class PayloadError(DispatchError):
    """The arguments of a job do not fit its handler, or cannot be kept as JSON."""

    exit_code = 2

    def __init__(self, job_name: str, faults: Iterable[Fault]) -> None:
        self.job_name = job_name
        self.faults: tuple[Fault, ...] = tuple(faults)
        super().__init__(f"job {job_name!r}: " + "; ".join(map(str, self.faults)))


class BatchError(PayloadError):
    """An item of `enqueue_many` does not fit. Nothing of its chunk is stored; what came before it is.

    `index` is the item's place in the iterable, `stored` how many jobs were enqueued before the failure, `batch_id`
    the batch they are in (None if there are none).
    """

    def __init__(
        self, job_name: str, faults: Iterable[Fault], *, index: int, stored: int, batch_id: int | None
    ) -> None:
        self.index, self.stored, self.batch_id = index, stored, batch_id
        placed = [
            Fault(f"[{index}].{fault.key}" if fault.key else f"[{index}]", fault.message) for fault in faults
        ]
        kept = (
            f"{stored:,} jobs before it are enqueued, as batch {batch_id}" if stored else "no job is enqueued"
        )
        super().__init__(job_name, [*placed, Fault("", kept)])


class ResultError(DispatchError):
    """What a handler returned cannot be kept: not JSON, or too large. The job fails without retry."""


class JobNotFoundError(DispatchError):
    """There is no job with this id (it never existed, or was pruned)."""

    def __init__(self, job_id: int) -> None:
        self.job_id = job_id
        super().__init__(f"job {job_id} not found")


class DeadLetterNotFoundError(JobNotFoundError):
    """No dead letter has this id: the job did not fail, or its dead letter was purged."""

    def __init__(self, job_id: int) -> None:
        super().__init__(job_id)
        self.args = (f"dead letter {job_id} not found: job {job_id} has not failed, or it was purged",)


class CommandFailedError(DispatchError):
    """The program of a command job did not exit with 0. One of `exit_status` and `signal` is None."""

    def __init__(
        self, program: str, *, exit_status: int | None = None, signal: str | None = None, detail: str = ""
    ) -> None:
        self.program, self.exit_status, self.signal, self.detail = program, exit_status, signal, detail
        how = f"was killed by {signal}" if signal is not None else f"exit status {exit_status}"
        super().__init__(f"{program}: {how}" + (f": {detail}" if detail else ""))


class InvalidStateError(DispatchError):
    """The job's state does not allow what was asked."""

    def __init__(self, job_id: int, state: str, wanted: str) -> None:
        self.job_id, self.state, self.wanted = job_id, state, wanted
        super().__init__(f"job {job_id} is {state}; {wanted}")


class JobFailedError(DispatchError):
    """`wait()` saw the job fail. `job` is its final state, `error` the handler's ErrorInfo (or None)."""

    def __init__(self, job: Any, error: Any) -> None:
        self.job, self.error = job, error
        super().__init__(f"job {job.id} ({job.name}) failed: {error if error is not None else 'no error kept'}")


class JobCancelledError(DispatchError):
    """`wait()` saw the job end as cancelled. `job` is its final state."""

    def __init__(self, job: Any) -> None:
        self.job = job
        why = f": {job.last_error.message}" if job.last_error is not None else ""
        super().__init__(f"job {job.id} ({job.name}) was cancelled{why}")


class WaitTimeoutError(DispatchError, TimeoutError):
    """`wait()` gave up before the job ended; the job itself goes on."""

    def __init__(self, job_id: int, timeout_s: float, state: str, why: str = "") -> None:
        self.job_id, self.timeout_s, self.state, self.why = job_id, timeout_s, state, why
        super().__init__(f"job {job_id} is still {state} after {timeout_s:g} s" + (f": {why}" if why else ""))


class AppReferenceError(DispatchError):
    """A worker process could not be told where the handlers are, or the reference names no engine."""

    exit_code = 70

    def __init__(self, reason: str, *, app: str = "") -> None:
        self.app, self.reason = app, reason
        super().__init__(f"app {app!r}: {reason}" if app else reason)


class AppImportError(DispatchError):
    """Importing the app failed in a worker. `traceback` is the text of its traceback."""

    exit_code = 70

    def __init__(self, app: str, reason: str, traceback: str = "") -> None:
        self.app, self.reason, self.traceback = app, reason, traceback
        super().__init__(f"app {app!r} does not import: {reason}")


class WrongProcessError(DispatchError):
    """This call makes no sense inside a worker process (a worker starts no supervisor)."""

    exit_code = 70


# ---------------------------------------------------------------- store


class StoreError(DispatchError):
    """Something about the store. `location` is the path or URL it was opened by."""

    exit_code = 69
    _what: ClassVar[str] = "store error"

    def __init__(self, location: str, detail: str = "") -> None:
        self.location, self.detail = location, detail
        super().__init__(f"{location}: {detail or self._what}")


class StoreBusy(StoreError):
    """Another process held the store's write lock for longer than we were willing to wait."""

    _what = "another process holds the write lock"


class StoreMissing(StoreError):
    """There is no store here, and this command does not create one."""

    _what = "no store here; `mpdispatch migrate` makes it, and so does the first enqueue that names it"


class StoreNotShared(StoreError):
    """A `:memory:` store was used from another process; only the process that made it has it."""

    _what = "an in-memory store cannot be used from another process; use a file"


class StoreFull(StoreError):
    """The disk is full, or this user's quota is used up. Nothing of this call was kept."""

    exit_code = 74
    _what = "the disk is full, or a quota is used up; nothing was stored"


class StoreIOError(StoreError):
    """The disk reported an I/O error. Nothing of this call is acknowledged."""

    exit_code = 74
    _what = "disk I/O error"


class StoreVanished(StoreError):
    """The store's file was deleted or replaced while it was open."""

    exit_code = 74
    _what = "the file was deleted or replaced while in use; put it back, or start again with a new one"


class StorePermission(StoreError):
    """The file or its folder cannot be read or written by this user."""

    exit_code = 77
    _what = "permission denied"


class StoreCannotCreate(StoreError):
    """The file cannot be created here (no such folder, a read-only file system, a directory in its place)."""

    exit_code = 73
    _what = "cannot be created"


class StoreCorrupt(StoreError):
    """The file is damaged or is no SQLite database."""

    exit_code = 65
    _what = "the file is damaged or not an SQLite database"


class StoreForeign(StoreError):
    """The file is somebody else's database, and it was not opened as shared."""

    exit_code = 65
    _what = (
        "this database holds other tables and none of mpdispatch's; choose another file, or open it with shared=True "
        "to keep ours beside them"
    )


class StoreNotUTF8(StoreError):
    """The database keeps its text as UTF-16. That was chosen when it was made and cannot be changed in place."""

    exit_code = 65

    def __init__(self, location: str, encoding: str) -> None:
        self.encoding = encoding
        super().__init__(
            location,
            f"its text is {encoding}, and mpdispatch needs a database in UTF-8; choose another file, or make a copy in"
            " UTF-8: sqlite3 OLD .dump | sqlite3 NEW",
        )


class StoreTooNew(StoreError):
    """The store was written by a newer mpdispatch."""

    exit_code = 78

    def __init__(self, location: str, found: int, supported: int) -> None:
        self.found, self.supported = found, supported
        super().__init__(
            location, f"its schema is version {found}, this mpdispatch knows {supported}; upgrade mpdispatch"
        )


class StoreTooOld(StoreError):
    """The store's schema must be migrated first, and this call does not migrate."""

    exit_code = 78

    def __init__(self, location: str, found: int, needed: int) -> None:
        self.found, self.needed = found, needed
        super().__init__(
            location, f"its schema is version {found}, version {needed} is needed; run `mpdispatch migrate`"
        )


class LeaseLostError(DispatchError):
    """This supervisor's registration is gone: another one took its jobs over. It must not write."""

    exit_code = 74

    def __init__(self, owner: int) -> None:
        self.owner = owner
        super().__init__(f"supervisor {owner} lost its lease; its jobs belong to others now")


# ---------------------------------------------------------------- steering a job from its handler


def _seconds(value: float | timedelta | str | None) -> float | None:
    if value is None:
        return None
    seconds: float | None
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    else:
        seconds = seconds_of_text(value) if isinstance(value, str) else float(value)
    if seconds is None or not 0 <= seconds < float("inf"):
        raise ValueError(
            "delay must be zero or more seconds, a timedelta or a duration such as '250ms', '30s', '5m' or '2h', not"
            f" {value!r:.60}"
        )
    return seconds


class Retry(Exception):
    """Raise in a handler: this attempt failed, try again after `delay` (default: the job's backoff).

    A delay is seconds, a timedelta, or text such as `"5m"`. Raises ValueError: it is none.
    """

    def __init__(self, reason: str = "", *, delay: float | timedelta | str | None = None) -> None:
        self.reason, self.delay_s = reason, _seconds(delay)
        super().__init__(reason or "the handler asked for a retry")


class Snooze(Exception):
    """Raise in a handler: run this job again after `delay` (seconds, a timedelta, `"5m"`); no attempt is spent."""

    def __init__(self, delay: float | timedelta | str) -> None:
        self.delay_s = _seconds(delay) or 0.0
        super().__init__(f"snoozed for {self.delay_s:g} s")


class Cancel(Exception):
    """Raise in a handler: this job ends as cancelled, with `reason`; it is not retried."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason or "the handler cancelled the job")


# ---------------------------------------------------------------- raised inside a handler by the supervisor


class JobInterrupt(BaseException):
    """Root of what the supervisor raises inside a running handler. Clean up and let it pass."""


class JobTimeout(JobInterrupt):
    """The job ran past its timeout. After `kill_grace` the process is killed."""


class JobCancelled(JobInterrupt):
    """The job was cancelled, or its supervisor is shutting down. After a grace the process is killed."""

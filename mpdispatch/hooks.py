"""Hooks are told what happens to jobs: subclass `Extension` and override the hooks you need. Values only.

    class Pager(hooks.Extension):
        name = "pager"

        def on_job_dead_lettered(self, event: hooks.JobDeadLettered) -> None:
            page_somebody(f"{event.name} {event.job_id}: {event.error}")

    engine = Engine.build(dispatcher, extensions=[Pager()])

Hooks run after the fact, one at a time, on a thread of their own: with `dispatcher.start()` and `run()` in that
process, under `mpdispatch supervise` in a process that imports the app for them. `on_job_enqueued` runs in the process
that enqueued; for jobs that a handler enqueues, it runs where the other hooks of its supervisor do. Events wait in a
queue of 10,000; an event that does not fit is dropped and counted in the log, and delays nobody.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from datetime import datetime
from typing import TypeAlias

import msgspec

from mpdispatch.errors import ConfigError, Fault
from mpdispatch.model import Cause, ErrorInfo

__all__ = [
    "HOOKS",
    "CronFired",
    "CronLate",
    "Event",
    "Extension",
    "JobCompleted",
    "JobDeadLettered",
    "JobEnqueued",
    "JobFailed",
    "JobRetrying",
    "JobStarted",
    "Shutdown",
    "checked_extensions",
    "overridden",
]


class _JobEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    job_id: int
    name: str
    queue: str
    at: datetime
    """When it happened (aware UTC)."""


class _StartEvent(_JobEvent, frozen=True, kw_only=True, gc=False):
    """About one start of a job."""

    starts: int
    """How often it was claimed, this time included: the fencing token."""
    attempt: int
    """1 = the first."""
    max_retries: int
    worker_pid: int | None


class JobEnqueued(_JobEvent, frozen=True, kw_only=True, gc=False, tag=True):
    """A job was stored: enqueued, or retried as a new one."""

    priority: int
    run_at: datetime
    idempotency_key: str | None = None
    batch_id: int | None = None
    retried_from: int | None = None
    is_committed: bool = True
    """False: it was enqueued with `connection=`, so it exists once the caller commits, and never after a rollback."""


class JobStarted(_StartEvent, frozen=True, kw_only=True, gc=False, tag=True):
    """A worker has called the handler."""


class JobCompleted(_StartEvent, frozen=True, kw_only=True, gc=False, tag=True):
    """The handler returned, and its result is on disk."""

    duration_s: float | None


class JobFailed(_StartEvent, frozen=True, kw_only=True, gc=False, tag=True):
    """The last attempt failed: the job is `failed`, for good. `JobDeadLettered` follows."""

    duration_s: float | None
    cause: Cause
    error: ErrorInfo


class JobRetrying(_StartEvent, frozen=True, kw_only=True, gc=False, tag=True):
    """An attempt failed; the job is tried again at `run_at`."""

    duration_s: float | None
    cause: Cause
    error: ErrorInfo
    run_at: datetime


class JobDeadLettered(_StartEvent, frozen=True, kw_only=True, gc=False, tag=True):
    """The failed job is a dead letter now."""

    cause: Cause
    error: ErrorInfo


class CronFired(_JobEvent, frozen=True, kw_only=True, gc=False, tag=True):
    """A cron entry put a job into its queue."""

    entry: str
    """The name of the entry."""
    slot_at: datetime
    """The moment that the schedule names."""


class CronLate(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag=True):
    """A cron entry has had no success within its time. Told once, and again only after a success."""

    entry: str
    """The name of the entry."""
    name: str
    """The name of its job."""
    queue: str
    at: datetime
    """When it was noticed (aware UTC)."""
    late_since: datetime
    """Since when it is late."""
    last_success_at: datetime | None
    """When a job of it last completed; None: never."""
    last_job_id: int | None
    """Its last job; None: it has fired none."""


class Shutdown(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag=True):
    """The supervisor has ended: the last event of its run."""

    at: datetime
    exit_code: int
    """0 drained, 75 aborted …"""
    completed: int
    """Jobs it completed."""
    failed: int
    """Jobs that reached `failed` under it."""


Event: TypeAlias = (
    JobEnqueued
    | JobStarted
    | JobCompleted
    | JobFailed
    | JobRetrying
    | JobDeadLettered
    | CronFired
    | CronLate
    | Shutdown
)


class Extension:
    """Base of extensions: override the hooks you need. Each takes one event and returns nothing.

    A hook that raises is logged with the extension's name and harms nothing. A slow hook delays only the hooks after it.
    """

    name: str = ""
    """The name in the log; the class's name unless given."""

    def on_job_enqueued(self, event: JobEnqueued) -> None:
        """A job was stored."""

    def on_job_started(self, event: JobStarted) -> None:
        """A worker has called the handler."""

    def on_job_completed(self, event: JobCompleted) -> None:
        """The handler returned."""

    def on_job_failed(self, event: JobFailed) -> None:
        """The last attempt failed."""

    def on_job_retrying(self, event: JobRetrying) -> None:
        """An attempt failed, and there is another."""

    def on_job_dead_lettered(self, event: JobDeadLettered) -> None:
        """A failed job became a dead letter."""

    def on_cron_fired(self, event: CronFired) -> None:
        """A cron entry put a job into its queue."""

    def on_cron_late(self, event: CronLate) -> None:
        """A cron entry has had no success within its time."""

    def on_shutdown(self, event: Shutdown) -> None:
        """The supervisor has ended."""


HOOKS: dict[type, str] = {
    JobEnqueued: "on_job_enqueued",
    JobStarted: "on_job_started",
    JobCompleted: "on_job_completed",
    JobFailed: "on_job_failed",
    JobRetrying: "on_job_retrying",
    JobDeadLettered: "on_job_dead_lettered",
    CronFired: "on_cron_fired",
    CronLate: "on_cron_late",
    Shutdown: "on_shutdown",
}
"""The hook of each kind of event."""


def overridden(extension: Extension) -> frozenset[str]:
    """The names of the hooks that this extension overrides.

    >>> class Mine(Extension):
    ...     def on_shutdown(self, event): ...
    >>> overridden(Mine())
    frozenset({'on_shutdown'})
    """
    return frozenset(
        hook
        for hook in HOOKS.values()
        if getattr(getattr(extension, hook), "__func__", None) is not getattr(Extension, hook)
    )


def checked_extensions(given: object) -> tuple[Extension, ...]:
    """The extensions of an engine. Raises ConfigError, naming everything wrong with them."""
    if isinstance(given, str | bytes | Extension) or not isinstance(given, Iterable):
        text = f"must be a list of extensions, not {type(given).__name__}"
        raise ConfigError([Fault("extensions", text)])
    found = tuple(given)
    faults = [fault for index, each in enumerate(found) for fault in _faults(f"extensions[{index}]", each)]
    if faults:
        raise ConfigError(faults)
    return found


def _faults(key: str, thing: object) -> list[Fault]:
    if isinstance(thing, type) and issubclass(thing, Extension):
        return [Fault(key, f"is the class {thing.__name__}, not one of it; write {thing.__name__}()")]
    if not isinstance(thing, Extension):
        return [Fault(key, f"must be a hooks.Extension, not {type(thing).__name__}")]
    return [
        Fault(key, f"{type(thing).__name__}.{hook} is async; hooks are plain functions")
        for hook in sorted(overridden(thing))
        if inspect.iscoroutinefunction(getattr(thing, hook))
    ]

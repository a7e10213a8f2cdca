"""The engine: handlers, and everything people do to jobs. Wires the registry to a dispatcher's store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, ParamSpec, Self, TypeVar, Unpack, overload

from mpdispatch.clock import Clock, SystemClock
from mpdispatch.config import QueueConfig
from mpdispatch.dispatcher import Dispatcher
from mpdispatch.engine.batch import Batch, enqueue_batch
from mpdispatch.engine.definition import JobHandle, as_handle
from mpdispatch.engine.enqueueing import PLAIN, EngineOptions, new_job
from mpdispatch.engine.options import (
    EnqueueKeywords,
    EnqueueOptions,
    JobKeywords,
    checked_backoff,
    checked_limit,
    seconds,
)
from mpdispatch.engine.waiting import wait_for_end
from mpdispatch.errors import (
    ConfigError,
    Fault,
    JobCancelledError,
    JobFailedError,
    StoreNotShared,
    UsageError,
)
from mpdispatch.execution.context import in_worker
from mpdispatch.execution.describe import AppDescription, describe
from mpdispatch.execution.registry import JobDefinition, Registry
from mpdispatch.execution.rulebook import LiveRulebook, Rulebook
from mpdispatch.model import Attempt, Job, JobState, Page
from mpdispatch.policy.backoff import BackoffSpec
from mpdispatch.policy.names import check_name, shown
from mpdispatch.store import SQLiteStore, open_store
from mpdispatch.store.base import JobFilter, QueueStats, Store

__all__ = ["Engine"]

P = ParamSpec("P")
R = TypeVar("R")


class Engine:
    """Handlers by name, and their jobs in a dispatcher's store. Made by `Engine.build` or `Engine.open`.

    Making one does no I/O. Safe from any thread, and after a fork.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        backoff: BackoffSpec | None = None,
        queue_configs: Iterable[QueueConfig] = (),
        clock: Clock | None = None,
    ) -> None:
        self.dispatcher = dispatcher
        self.registry = Registry()
        self.backoff = checked_backoff(backoff)
        self.queue_configs = _checked_queues(queue_configs)
        self.rulebook: Rulebook = LiveRulebook(self.registry, self.backoff)
        self._clock = clock or SystemClock()
        self._store: Store = dispatcher.store
        self._max_payload_bytes = dispatcher.config.max_payload_bytes
        dispatcher.adopt(self)

    @classmethod
    def build(
        cls,
        dispatcher: Dispatcher,
        *,
        backoff: BackoffSpec | None = None,
        queue_configs: Iterable[QueueConfig] = (),
    ) -> Self:
        """An engine for this dispatcher.

        `backoff` applies to jobs that name none (default: full jitter, base 1 s, at most 60 s);
        `queue_configs` limit queues.

        Raises:
            ConfigError: names everything wrong with the arguments.
        """
        return cls(dispatcher, backoff=backoff, queue_configs=queue_configs)

    @classmethod
    def open(cls, location: str | os.PathLike[str], **config: Any) -> Self:
        """The smallest program's engine: a store by path or URL, and any Config field as a keyword.

        Raises:
            ConfigError: names everything wrong with the configuration.
            UsageError: the location is of a kind there is no store for.
        """
        store: Store = open_store(location)
        if "durability" in config and "://" not in os.fspath(location):
            store = SQLiteStore(location, durability=config["durability"])
        return cls.build(Dispatcher(store=store, **config))

    def __repr__(self) -> str:
        return f"<Engine on {self.store.location}: {', '.join(sorted(self.registry.names())) or 'no handlers'}>"

    @property
    def store(self) -> Store:
        """Where its jobs are.

        Raises:
            StoreNotShared: this is a worker, and the jobs are in the memory of another process.
        """
        if in_worker() and not self._store.is_shared:
            raise StoreNotShared(self._store.location)
        return self._store

    # ---------------------------------------------------------------- handlers

    @overload
    def job(self, name: Callable[P, R], /) -> JobHandle[P, R]: ...
    @overload
    def job(
        self, name: str | None = None, **options: Unpack[JobKeywords]
    ) -> Callable[[Callable[P, R]], JobHandle[P, R]]: ...
    def job(self, name: Any = None, **options: Any) -> Any:
        """Make the function a handler of this engine.

        Used as `@engine.job` or as `@engine.job(name=None, *, queue="default", priority=0, max_retries=3,
        timeout=None, backoff=None)`. The name is the function's own unless given.

        Raises:
            RegistrationError: the function cannot be a handler, or an option is not allowed.
            DuplicateJobError: another handler has this name.
        """
        if callable(name):
            return self.register(as_handle(None, name, options))
        return lambda function: self.register(as_handle(name, function, options))

    def register(self, handler: Callable[P, R]) -> JobHandle[P, R]:
        """Take in a stand-alone `@job` (or a plain function, with every option at its default).

        Works after the dispatcher was started too; the function must then be importable by module and name.

        Raises:
            RegistrationError: the function cannot be a handler.
            DuplicateJobError: another handler has this name.
        """
        handle = handler if isinstance(handler, JobHandle) else as_handle(None, handler, {})
        self.registry.add(handle.definition)
        handle.bind(self)
        return handle

    # ---------------------------------------------------------------- enqueueing

    def enqueue(self, name: str, /, *args: Any, **kwargs: Any) -> Job:
        """Keep a job for the handler of this name; on disk when it returns.

        Raises:
            UnknownJobError: there is no such handler.
            PayloadError: the arguments do not fit its signature, or cannot be kept as JSON.
            StoreError: it could not be stored; then it was not.
        """
        return self.enqueue_as(self.registry.get(name), PLAIN, args, kwargs)

    def enqueue_many(self, name: str, items: Iterable[Mapping[str, Any]], /) -> Batch:
        """Keep one job per mapping of arguments, in chunks of 5,000, each in one transaction.

        Raises:
            BatchError: an item does not fit. Nothing of its chunk is stored; the error names its index
                and says how many jobs are.
        """
        return self.enqueue_many_as(self.registry.get(name), PLAIN, items)

    def options(self, **options: Unpack[EnqueueKeywords]) -> EngineOptions:
        """This engine's `enqueue` with options: queue, priority, run_at or delay, max_retries, timeout …

        Raises:
            UsageError: names every option that is unknown or not allowed.
        """
        return EngineOptions(self, EnqueueOptions.read(options))

    def enqueue_as(
        self,
        definition: JobDefinition,
        options: EnqueueOptions,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Job:
        payload = definition.signature.encode(args, kwargs, max_bytes=self._max_payload_bytes)
        now = self._clock.now()
        return self.store.enqueue(
            new_job(definition, options, payload, now.wall_us), now=now, connection=options.connection
        )

    def enqueue_many_as(
        self, definition: JobDefinition, options: EnqueueOptions, items: Iterable[Mapping[str, Any]]
    ) -> Batch:
        for field in ("idempotency_key", "connection"):
            if getattr(options, field) is not None:
                raise UsageError(f"{field}: enqueue_many takes none; enqueue the jobs one by one")
        template = new_job(definition, options, b"{}", self._clock.now().wall_us)
        return enqueue_batch(
            self.store,
            template,
            definition.signature,
            items,
            max_bytes=self._max_payload_bytes,
            clock=self._clock,
        )

    # ---------------------------------------------------------------- looking after jobs

    def get_job(self, job_id: int) -> Job:
        """Raises JobNotFoundError."""
        return self.store.get(_checked_id(job_id))

    def attempts(self, job_id: int) -> list[Attempt]:
        """How each start of the job ended, oldest first. Raises JobNotFoundError."""
        return self.store.attempts(_checked_id(job_id))

    def list_jobs(
        self,
        *,
        state: JobState | str | None = None,
        queue: str | None = None,
        name: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Job]:
        """Jobs, newest first: `items` (at most `limit`, 1 to 1000) and the `next_cursor` (None at the end).

        Raises:
            UsageError: there is no such state, or `limit` or `cursor` is not allowed.
        """
        where = JobFilter(state=_checked_state(state), queue=queue, name=name)
        return self.store.list_jobs(where, limit=checked_limit(limit), cursor=cursor)

    def counts(self) -> dict[JobState, int]:
        """How many jobs are in each state, 0 included."""
        return self.store.counts()

    def wait(self, job_id: int, timeout: float | timedelta | None = None) -> Job:
        """Block until the job has ended; gives it completed.

        Raises:
            JobFailedError: it failed; carries the job and the handler's ErrorInfo.
            JobCancelledError: it was cancelled.
            WaitTimeoutError: it has not ended within `timeout` seconds; the job itself goes on.
            JobNotFoundError: there is no such job (any more).
        """
        timeout_s = None if timeout is None else seconds("timeout", timeout)
        state = wait_for_end(self.store, _checked_id(job_id), timeout_s)
        job = self.store.get(job_id)
        if state is JobState.FAILED:
            raise JobFailedError(job, job.last_error)
        if state is JobState.CANCELLED:
            raise JobCancelledError(job)
        return job

    def cancel(self, job_id: int) -> Job:
        """Cancel a waiting job at once; ask the supervisor to end a running one.

        Raises:
            InvalidStateError: it has ended already.
            JobNotFoundError: there is no such job.
        """
        return self.store.cancel(_checked_id(job_id), now=self._clock.now())

    def retry(self, job_id: int) -> Job:
        """Run a retrying or scheduled job now; enqueue a failed or cancelled one again as a **new** job.

        The new job has `retried_from`; the old one stays as it ended.

        Raises:
            InvalidStateError: it is pending, running or completed.
            JobNotFoundError: there is no such job.
        """
        return self.store.retry(_checked_id(job_id), now=self._clock.now())

    def wake(self) -> None:
        """Tell supervisors that there is work, for example after the commit of `connection=` enqueues. A hint."""
        self.store.wake()

    # ---------------------------------------------------------------- the whole

    def pause_queue(self, queue: str) -> None:
        """No job of this queue is started until it is resumed; running ones go on."""
        self.store.set_paused(check_name("queue", queue), True, now=self._clock.now())

    def resume_queue(self, queue: str) -> None:
        self.store.set_paused(check_name("queue", queue), False, now=self._clock.now())

    def queue_stats(self) -> list[QueueStats]:
        """Every queue that has jobs or is paused."""
        return self.store.queue_stats()

    def stats(self) -> dict[str, Any]:
        """Counts of the whole store, as `mpdispatch stats --json` gives them."""
        counts = self.store.counts()
        queues = self.store.queue_stats()
        return {
            "jobs": {state.value: counts[state] for state in JobState},
            "dlq_count": self.store.dead_letter_count(),
            "queues": {q.name: {"paused": q.is_paused, "jobs": dict(q.jobs)} for q in queues},
            "supervisors": len(self.store.supervisors()),
            "store": self.store.location,
        }

    # ---------------------------------------------------------------- for workers and supervisors

    def describe(self) -> AppDescription:
        """The app in a few facts, for a supervisor that does not import it."""
        return describe(
            self.registry,
            store=self.dispatcher.store,
            config=self.dispatcher.config,
            queue_configs=self.queue_configs,
            backoff=self.backoff,
            origins=self.dispatcher.origins,
        )

    def use_store(self, location: str) -> None:
        """Enqueue into the store at `location` from now on. Workers of another supervisor's store call it."""
        self._store = open_store(location)


def _checked_queues(queue_configs: Iterable[QueueConfig]) -> tuple[QueueConfig, ...]:
    found = tuple(queue_configs)
    faults = [
        Fault(f"queue_configs[{index}]", f"must be a QueueConfig, not {shown(item)}")
        for index, item in enumerate(found)
        if not isinstance(item, QueueConfig)
    ]
    if faults:
        raise ConfigError(faults)
    names = [item.name for item in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError([Fault("queue_configs", f"queue {name!r} is configured twice") for name in twice])
    return found


def _checked_id(job_id: object) -> int:
    if isinstance(job_id, bool) or not isinstance(job_id, int):
        hint = "; pass job.id" if isinstance(job_id, Job) else ""
        raise UsageError(f"job_id: must be a whole number, not {shown(job_id)}{hint}")
    return job_id


def _checked_state(state: object) -> JobState | None:
    try:
        return None if state is None else JobState(state)  # type: ignore[arg-type]  # a wrong type is reported
    except ValueError:
        states = ", ".join(each.value for each in JobState)
        raise UsageError(f"state: must be one of {states}, not {shown(state)}") from None

"""From a definition, options and a payload to a new job; and an engine's `enqueue` with options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec

from mpdispatch.clock import SECOND_US
from mpdispatch.engine.batch import Batch
from mpdispatch.engine.offload import StandstillError, offload
from mpdispatch.engine.options import EnqueueOptions
from mpdispatch.errors import StoreBusy, UsageError
from mpdispatch.handlers.registry import JobDefinition, Registry
from mpdispatch.model import Job, NewJob
from mpdispatch.store.contract import Store

__all__ = [
    "PLAIN",
    "EngineOptions",
    "Enqueuer",
    "PlainDefaults",
    "enqueue_async",
    "enqueue_many_async",
    "new_job",
]

PLAIN = EnqueueOptions()
"""No option given."""


class JobDefaults(Protocol):
    """What a job gets where its options say nothing: a definition has it."""

    @property
    def name(self) -> str: ...

    @property
    def queue(self) -> str: ...

    @property
    def priority(self) -> int: ...

    @property
    def max_retries(self) -> int: ...

    @property
    def timeout_s(self) -> float | None: ...


class PlainDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """The defaults of a job whose handler nobody knows here."""

    name: str
    queue: str = "default"
    priority: int = 0
    max_retries: int = 3
    timeout_s: float | None = None


class Enqueuer(Protocol):
    """What enqueues jobs of a definition: an engine."""

    @property
    def registry(self) -> Registry: ...

    @property
    def store(self) -> Store: ...

    def enqueue_as(
        self,
        definition: JobDefinition,
        options: EnqueueOptions,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Job: ...

    def enqueue_many_as(
        self, definition: JobDefinition, options: EnqueueOptions, items: Iterable[Mapping[str, Any]]
    ) -> Batch: ...


class EngineOptions:
    """An engine with options for the jobs that are enqueued through it."""

    def __init__(self, engine: Enqueuer, options: EnqueueOptions) -> None:
        self._engine, self._options = engine, options

    def enqueue(self, name: str, /, *args: Any, **kwargs: Any) -> Job:
        """As `Engine.enqueue`, with these options."""
        return self._engine.enqueue_as(self._engine.registry.get(name), self._options, args, kwargs)

    def enqueue_many(self, name: str, items: Iterable[Mapping[str, Any]], /) -> Batch:
        """As `Engine.enqueue_many`, with these options (but no idempotency key or connection)."""
        return self._engine.enqueue_many_as(self._engine.registry.get(name), self._options, items)

    async def enqueue_async(self, name: str, /, *args: Any, **kwargs: Any) -> Job:
        """As `Engine.enqueue_async`, with these options (but no connection)."""
        definition = self._engine.registry.get(name)
        return await enqueue_async(self._engine, definition, self._options, args, kwargs)

    async def enqueue_many_async(self, name: str, items: Iterable[Mapping[str, Any]], /) -> Batch:
        """As `Engine.enqueue_many_async`, with these options (but no idempotency key or connection)."""
        return await enqueue_many_async(self._engine, self._engine.registry.get(name), self._options, items)


async def enqueue_async(
    engine: Enqueuer,
    definition: JobDefinition,
    options: EnqueueOptions,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Job:
    """As `engine.enqueue_as`, on another thread.

    At most four run at once. The others wait on the event loop, for 30 s after the last that got through.

    Raises:
        StoreBusy: it could not be stored for 30 s, and was not.
        UsageError: a connection is given; it belongs to the caller's thread and transaction.
    """
    if options.connection is not None:
        raise UsageError(
            "connection: enqueue_async takes none, it runs on another thread; call enqueue() instead"
        )
    try:
        return await offload(engine.enqueue_as, definition, options, args, kwargs)
    except StandstillError:
        raise _standstill(engine) from None


async def enqueue_many_async(
    engine: Enqueuer, definition: JobDefinition, options: EnqueueOptions, items: Iterable[Mapping[str, Any]]
) -> Batch:
    """As `engine.enqueue_many_as`, on another thread, which also iterates."""
    try:
        return await offload(engine.enqueue_many_as, definition, options, items)
    except StandstillError:
        raise _standstill(engine) from None


def _standstill(engine: Enqueuer) -> StoreBusy:
    return StoreBusy(
        engine.store.location, "no enqueue of this event loop has got through for 30 s, nor has this one"
    )


def new_job(
    defaults: JobDefaults,
    options: EnqueueOptions,
    payload: bytes,
    now_us: int,
    default_timeout_s: float | None = None,
) -> NewJob:
    """The job with this payload: what the options say, else its own defaults, else `default_timeout_s`."""
    timeout_us = options.timeout_us
    if isinstance(timeout_us, msgspec.UnsetType):
        timeout_us = None if defaults.timeout_s is None else round(defaults.timeout_s * SECOND_US)
    if timeout_us is None and default_timeout_s is not None:
        timeout_us = round(default_timeout_s * SECOND_US)
    return NewJob(
        name=defaults.name,
        payload=payload,
        queue=defaults.queue if options.queue is None else options.queue,
        priority=defaults.priority if options.priority is None else options.priority,
        max_retries=defaults.max_retries if options.max_retries is None else options.max_retries,
        run_at_us=now_us + options.delay_us if options.delay_us else options.run_at_us,
        timeout_us=timeout_us,
        idempotency_key=options.idempotency_key,
    )

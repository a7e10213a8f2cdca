"""The four ways to enqueue, for a handler and by its name."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeAlias, TypeVar, overload

from mpdispatch.engine.batches.batch import Batch
from mpdispatch.engine.offload import StandstillError, offload
from mpdispatch.engine.options import EnqueueOptions
from mpdispatch.errors import StoreBusy, UsageError
from mpdispatch.handlers.registry import JobDefinition
from mpdispatch.model import Job

if TYPE_CHECKING:  # an engine is one of these
    from mpdispatch.engine.engine import Engine

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")


Enqueueable: TypeAlias = "str | EnqueuesJobs[..., Any]"
"""A handler by its name, a handler, or one with options."""


class EnqueuesJobs(Generic[P, R]):
    """The four ways to enqueue jobs of one handler: one or many, from plain or from async code."""

    def _target(self) -> tuple[Engine, JobDefinition, EnqueueOptions]:
        """What they go into, for which handler, with which options."""
        raise NotImplementedError

    def target_in(self, engine: Engine, field: str) -> tuple[JobDefinition, EnqueueOptions]:
        """The handler and the options, for an enqueue into this engine.

        Raises UnknownJobError: it has no handler of that name; UsageError: it has another one.
        """
        _, definition, options = self._target()
        if engine.registry.get(definition.name) is not definition:
            raise UsageError(f"{field}: {definition.name!r} is a handler of another engine")
        return definition, options

    # The result of a handler that gives a coroutine is what that gives.
    @overload
    def enqueue(
        self: EnqueuesJobs[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[T]: ...
    @overload
    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...
    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[Any]:
        """Keep a job that calls the handler with these arguments; on disk when it returns.

        Raises:
            PayloadError: the arguments do not fit the signature, or cannot be kept as JSON.
            StoreError: it could not be stored; then it was not, but after a StoreIOError nobody can know.
        """
        engine, definition, options = self._target()
        return engine.enqueue_as(definition, options, args, kwargs)

    @overload
    async def enqueue_async(
        self: EnqueuesJobs[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[T]: ...
    @overload
    async def enqueue_async(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...
    async def enqueue_async(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[Any]:
        """As `enqueue`, from async code: `await f.enqueue_async(…)`. Never blocks the event loop.

        However many are called at once, four threads do them all. Cancelled while it waits for the store, it may or may
        not have stored the job; while it waits for its turn, it has not.

        Raises:
            StoreBusy: no enqueue of this event loop got through for 30 s. The job was not stored.
            UsageError: the option `connection` is given; it belongs to the caller's thread and transaction.
        """
        engine, definition, options = self._target()
        if options.connection is not None:
            raise UsageError(
                "connection: enqueue_async takes none, it runs on another thread; call enqueue() instead"
            )
        return await offloaded(engine, engine.enqueue_as, definition, options, args, kwargs)

    def enqueue_many(self, items: Iterable[Mapping[str, Any]]) -> Batch:
        """Keep one job per mapping of arguments, in chunks of 5,000, each in one transaction.

        A generator is consumed as it is stored. The options `idempotency_key` and `connection` are refused.

        Raises BatchError: an item does not fit. Nothing of its chunk is stored; the error names its index and says how
        many jobs are.
        """
        engine, definition, options = self._target()
        return engine.enqueue_many_as(definition, options, items)

    async def enqueue_many_async(self, items: Iterable[Mapping[str, Any]]) -> Batch:
        """As `enqueue_many`, from async code. The items are consumed on another thread."""
        engine, definition, options = self._target()
        return await offloaded(engine, engine.enqueue_many_as, definition, options, items)


class BoundJob(EnqueuesJobs[P, R]):
    """A handler with options for the jobs that are enqueued through it."""

    def __init__(self, engine: Engine, definition: JobDefinition, options: EnqueueOptions) -> None:
        self._bound_to = engine, definition, options

    def _target(self) -> tuple[Engine, JobDefinition, EnqueueOptions]:
        return self._bound_to


class EnqueuesByName:
    """The same four ways, with the handler's name as the first argument."""

    def _named(self, name: str) -> BoundJob[..., Any]:
        """The handler of this name, with options. Raises UnknownJobError."""
        raise NotImplementedError

    def enqueue(self, name: str, /, *args: Any, **kwargs: Any) -> Job:
        """As `JobHandle.enqueue`, for the handler of this name. Raises UnknownJobError, too."""
        return self._named(name).enqueue(*args, **kwargs)

    async def enqueue_async(self, name: str, /, *args: Any, **kwargs: Any) -> Job:
        """As `JobHandle.enqueue_async`: `await engine.enqueue_async("render", path="a.pdf")`."""
        return await self._named(name).enqueue_async(*args, **kwargs)

    def enqueue_many(self, name: str, items: Iterable[Mapping[str, Any]], /) -> Batch:
        """As `JobHandle.enqueue_many`, for the handler of this name."""
        return self._named(name).enqueue_many(items)

    async def enqueue_many_async(self, name: str, items: Iterable[Mapping[str, Any]], /) -> Batch:
        """As `JobHandle.enqueue_many_async`, for the handler of this name."""
        return await self._named(name).enqueue_many_async(items)


class EngineOptions(EnqueuesByName):
    """An engine with options for the jobs that are enqueued through it."""

    def __init__(self, engine: Engine, options: EnqueueOptions) -> None:
        self._engine, self._options = engine, options

    def _named(self, name: str) -> BoundJob[..., Any]:
        return BoundJob(self._engine, self._engine.registry.get(name), self._options)


async def offloaded(engine: Engine, function: Callable[Q, R], /, *args: Q.args, **kwargs: Q.kwargs) -> R:
    """What the function returns, called on another thread. Raises StoreBusy after 30 s without any progress."""
    try:
        return await offload(function, *args, **kwargs)
    except StandstillError:
        raise StoreBusy(
            engine.store.display, "no enqueue of this event loop has got through for 30 s, nor has this one"
        ) from None

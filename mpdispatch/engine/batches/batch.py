"""`Batch`: jobs that belong together, in the hands of people."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar, overload

import msgspec

from mpdispatch.errors import JobNotFoundError, UsageError
from mpdispatch.execution.process_context import refuse_while_importing
from mpdispatch.model import BatchInfo, Job, JobState, Member
from mpdispatch.store.batches import every_member

if TYPE_CHECKING:  # which import this module
    from mpdispatch.engine.client import JobClient
    from mpdispatch.engine.engine import Engine
    from mpdispatch.engine.enqueueing import Enqueueable, EnqueuesJobs

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_PAGE = 1_000


class BatchResult(NamedTuple):
    """What a completed member was given, and what it returned, both as JSON data."""

    job_id: int
    arguments: dict[str, Any]
    result: Any


class Batch:
    """Jobs that belong together: its *members*. From `engine.batch`, `engine.batches.get` and `enqueue_many`.

    What it says is read from the store at each use; `status()` gives all of one moment. It ends once it is closed and
    every member has ended. A failed or cancelled member that is enqueued again (`retry`, `retry_failed`, a replayed dead
    letter) is no member any more; the new job is, and the batch has not ended then.

    Iterating gives the ids of its jobs; of one that `enqueue_many` gave, those that were enqueued then, in the order of
    the items and without reading the store.
    """

    __slots__ = ("_client", "_ranges", "id", "name", "store")

    def __init__(
        self, client: JobClient, batch_id: int, name: str, ranges: Iterable[range] | None = None
    ) -> None:
        self.id, self.name = batch_id, name
        self._client = client
        self.store = client.store  # a batch stays where it is, if the engine is given another store
        self._ranges = None if ranges is None else tuple(ranges)

    def __repr__(self) -> str:
        return f"<Batch id={self.id} name={self.name!r}>"

    # ---------------------------------------------------------------- how it stands

    def status(self) -> BatchInfo:
        """All that is known of it, at one moment. Raises BatchNotFoundError: it was pruned."""
        return self.store.batches.get(self.id)

    @property
    def total(self) -> int:
        """Number of its members now."""
        return self.status().total

    @property
    def counts(self) -> Mapping[JobState, int]:
        """Number of members in each state, zeros included: `batch.counts["failed"]`."""
        return self.status().counts

    @property
    def progress(self) -> float:
        """The share of members that have ended: 0 to 1."""
        return self.status().progress

    @property
    def rate(self) -> float | None:
        """Members that ended per second, since the first one started; None: none has ended."""
        return self.status().rate

    @property
    def eta(self) -> float | None:
        """Seconds until all present members have ended, at this rate; 0 once it has ended, None if unknown."""
        return self.status().eta_s

    @property
    def is_open(self) -> bool:
        """Whether it takes more members. It does not end before it is closed."""
        return self.status().is_open

    @property
    def created_at(self) -> datetime:
        """When it was opened."""
        return self.status().created_at

    @property
    def started_at(self) -> datetime | None:
        """When its first member started."""
        return self.status().started_at

    @property
    def ended_at(self) -> datetime | None:
        """When its last member ended; None: it has not ended."""
        return self.status().ended_at

    @property
    def count(self) -> int:
        """Number of the ids that iterating gives."""
        return self.total if self._ranges is None else sum(map(len, self._ranges))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        if self._ranges is None:
            return (each.id for each in self._members())
        return chain.from_iterable(self._ranges)

    # ---------------------------------------------------------------- its members

    def _members(self) -> Iterator[Member]:
        """All in order of their ids, without those whose places other jobs have taken; read by the page."""
        found = every_member(self.store.batches, self.id, at_once=_PAGE)
        return (each for each in found if each.retried_as is None)

    def jobs(self, state: JobState | str | None = None) -> Iterator[Job]:
        """Its members in order of their ids, those in one state or all. Read as they are asked for.

        Raises UsageError: there is no such state.
        """
        from mpdispatch.engine.options import checked_state

        wanted = checked_state(state)
        return self._jobs(wanted)

    def _jobs(self, state: JobState | None) -> Iterator[Job]:
        for member in self._members():
            if state is None or member.state is state:
                try:
                    yield self.store.get(member.id).known_to(self._client)
                except JobNotFoundError:
                    continue  # it was pruned since its page was read

    def results(self) -> Iterator[BatchResult]:
        """(job id, arguments, result) of every member that has completed by now, in order of their ids.

        Read as they are asked for, so any number of them takes little memory. It does not wait: `batch.wait()` does.
        """
        for member in self._members():
            if member.state is JobState.COMPLETED:
                result = None if member.result is None else msgspec.json.decode(member.result)
                yield BatchResult(member.id, msgspec.json.decode(member.payload), result)

    def wait(self, timeout: float | timedelta | str | None = None) -> BatchInfo:
        """Block until it has ended; gives how it stands then. Members that failed raise nothing: see `counts`.

        Raises:
            BatchTimeoutError: it has not ended within `timeout` seconds; its jobs go on.
            BatchNotFoundError: it was pruned.
            UsageError: called inside its own `with`, which closes it only at its end.
        """
        from mpdispatch.engine.batches.waiting import wait_for_batch

        refuse_while_importing("wait")
        if (here := self._client.in_process) is not None:
            here.batch_awaited(self.id)
        return wait_for_batch(self._client, self.store, self.id, timeout)

    async def wait_async(self, timeout: float | timedelta | str | None = None) -> BatchInfo:
        """As `wait`, from async code. Never blocks the event loop."""
        from mpdispatch.engine.batches.waiting import wait_for_batch_async
        from mpdispatch.engine.in_process import on_thread

        if (here := self._client.in_process) is not None:
            await on_thread(here.batch_awaited, self.id)
        return await wait_for_batch_async(self._client, self.store, self.id, timeout)

    # ---------------------------------------------------------------- what is done to it

    @overload
    def add(
        self, job: EnqueuesJobs[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[T]: ...
    @overload
    def add(self, job: EnqueuesJobs[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...
    @overload
    def add(self, job: str, /, *args: Any, **kwargs: Any) -> Job: ...
    def add(self, job: Enqueueable, /, *args: Any, **kwargs: Any) -> Job:
        """Enqueue one more member: `batch.add(thumbnail, "a.jpg")`; on disk when it returns.

        `job`: a handler, its name, or one with options: `thumbnail.options(priority=5)`.

        Raises:
            BatchClosedError: it is closed, or was cancelled.
            PayloadError, UnknownJobError: the arguments do not fit the handler, or there is none of this name.
        """
        from mpdispatch.engine.batches.block import Block

        engine = self._engine("add")
        definition, options = engine.target_of("job", job)
        with Block(engine, self, synced_every=1):
            return engine.enqueue_as(definition, options, args, kwargs)

    def add_many(self, job: Enqueueable, items: Iterable[Mapping[str, Any]], /) -> Batch:
        """Enqueue more members, as `enqueue_many` does; iterating what it gives are the ids of the new ones.

        Raises as `add`; BatchError: an item does not fit.
        """
        from mpdispatch.engine.batches.block import Block

        engine = self._engine("add_many")
        definition, options = engine.target_of("job", job)
        with Block(engine, self, synced_every=1):
            return engine.enqueue_many_as(definition, options, items)

    def close(self) -> BatchInfo:
        """It takes no more members, and ends once all have ended; at once if they have. Twice is the same as once."""
        refuse_while_importing("close")
        was_open = self.is_open
        info = self.store.batches.close(self.id)
        if was_open and info.ended_at is not None:
            # Only a close ends an open batch: nobody else has told the hooks of its callbacks.
            made = [each.job_id for each in info.callbacks.values() if each.job_id is not None]
            self._client.tell_all(map(self.store.get, made))
        return self._settled(info)

    def cancel(self) -> BatchInfo:
        """Cancel the members that wait, ask running ones to end, and close it. Nothing happens to one that has ended.

        It takes no more members then, but `retry_failed` runs failed ones again. Members are cancelled in short
        transactions; if this process dies, a supervisor goes on.
        """
        refuse_while_importing("cancel")
        info = self.store.batches.cancel(self.id)
        return self.close() if info.is_open else self._settled(info)

    def retry_failed(self) -> int:
        """Enqueue the members that have failed again, each as a new job in the place of the old one; gives how many.

        Members that were cancelled stay so. Doing it twice enqueues each once. If then all complete, `on_success` is
        enqueued, unless it was before.
        """
        refuse_while_importing("retry_failed")
        count = self.store.batches.retry(self.id, on_retry=self._client.tell_all)
        self._client.settle()
        return count

    def _settled(self, info: BatchInfo) -> BatchInfo:
        """How it stands: in tests, where jobs run in this process, after its callbacks have run."""
        if self._client.in_process is None:
            return info
        self._client.settle()
        return self.status()

    def _engine(self, call: str) -> Engine:
        from mpdispatch.engine.engine import Engine

        if not isinstance(self._client, Engine):
            raise UsageError(
                f"{call}: needs an engine, which knows the handlers: engine.batches.get({self.id})"
            )
        return self._client

"""`with engine.batch(…)`: a block of code in which what an engine enqueues becomes members of a batch.

The block is a context variable. A task of asyncio that is started inside the block is in it too, until the block ends;
a thread is not.
"""

from __future__ import annotations

from contextvars import ContextVar
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec

from mpdispatch.engine.batches.batch import Batch
from mpdispatch.engine.batches.bulk import left_open
from mpdispatch.errors import StoreError, UsageError
from mpdispatch.execution.process_context import refuse_while_importing
from mpdispatch.model import BatchInfo, NewBatch, NewJob

if TYPE_CHECKING:  # which imports this module
    from mpdispatch.engine.engine import Engine
    from mpdispatch.engine.options import EnqueueOptions
    from mpdispatch.store.contract import Store

SYNCED_EVERY = 1_000
"""Members that are enqueued one by one reach the disk together, at least this often."""

_innermost: ContextVar[Block | None] = ContextVar("mpdispatch_batch", default=None)


class Block:
    """A block of code whose enqueues make members of a batch. A context; its members are those of one engine."""

    __slots__ = ("_enqueued", "_synced_every", "batch", "engine", "is_over", "outer")

    def __init__(self, engine: Engine, batch: Batch, *, synced_every: int) -> None:
        self.engine, self.batch = engine, batch
        self.outer: Block | None = None
        self.is_over = False
        """A task may outlive the block in which it was started; then it makes no members any more."""
        self._synced_every, self._enqueued = synced_every, count(1)

    def __enter__(self) -> Self:
        self.outer = _innermost.get()
        _innermost.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over = True
        if _innermost.get() is self:
            _innermost.set(self.outer)

    def refuse_other_store(self) -> None:
        """Raises UsageError: the engine uses another store than at the beginning of the block."""
        if self.engine.store is not self.batch.store:
            raise UsageError(
                f"batch {self.batch.id} is in {self.batch.store.display}, and since `use_store` this engine enqueues into"
                f" {self.engine.store.display}"
            )

    def member(self, job: NewJob, options: EnqueueOptions) -> tuple[NewJob, bool]:
        """The job as a member, and whether to wait for the disk. Raises UsageError."""
        if options.connection is not None:
            raise UsageError(
                f"connection: a member of batch {self.batch.id} takes none: its transaction would keep the other members"
                " waiting; enqueue this job outside of the batch"
            )
        self.refuse_other_store()
        is_synced = next(self._enqueued) % self._synced_every == 0
        return msgspec.structs.replace(job, batch_id=self.batch.id), is_synced


def block_of(engine: Engine) -> Block | None:
    """The innermost block of this engine in which the caller is."""
    block = _innermost.get()
    while block is not None and (block.engine is not engine or block.is_over):
        block = block.outer
    return block


def is_in_block_of(batch_id: int, store: Store) -> bool:
    """Whether the caller is in a block of this batch, which is closed only at its end."""
    block = _innermost.get()
    while block is not None:
        is_it = block.batch.id == batch_id and block.batch.store.display == store.display
        if is_it and not block.is_over:
            return True
        block = block.outer
    return False


class BatchContext:
    """What `engine.batch(…)` gives: `with` or `async with` makes the batch, and closes it at the end. For one use."""

    def __init__(self, engine: Engine, new: NewBatch, *, stays_open: bool) -> None:
        self._engine, self._new, self._stays_open = engine, new, stays_open
        self._block: Block | None = None

    def __enter__(self) -> Batch:
        self._begin_once()
        return self._entered(self._open())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left()
        self._finish(error)

    async def __aenter__(self) -> Batch:
        from mpdispatch.engine.enqueueing import offloaded

        self._begin_once()
        return self._entered(await offloaded(self._engine, self._open))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from mpdispatch.engine.enqueueing import offloaded

        self._left()
        await offloaded(self._engine, self._finish, error)

    def _begin_once(self) -> None:
        refuse_while_importing("batch")
        if self._block is not None:
            raise UsageError("this batch has been made; call engine.batch(…) for another one")

    def _open(self) -> Batch:
        return Batch(self._engine, self._engine.store.batches.open(self._new).id, self._new.name)

    def _entered(self, batch: Batch) -> Batch:
        self._block = Block(self._engine, batch, synced_every=SYNCED_EVERY)
        self._block.__enter__()
        return batch

    def _left(self) -> None:
        assert self._block is not None
        self._block.__exit__()

    def _finish(self, error: BaseException | None) -> None:
        assert self._block is not None
        batch = self._block.batch
        if error is None:
            self._close(batch)
            return
        try:
            info = self._left_open(batch)
        except StoreError as failure:
            error.add_note(f"batch {batch.id} could not be looked at: {failure}")
            return
        has = f"batch {batch.id} ({batch.name}) has {info.total:,} {'job' if info.total == 1 else 'jobs'}"
        if info.is_open:
            error.add_note(f"{has}; {left_open(batch.id)}")
        else:
            error.add_note(f"{has}, and {'was cancelled' if info.cancelled_at else 'is closed'}")

    def _close(self, batch: Batch) -> None:
        try:
            if self._stays_open:
                batch.store.sync()
            else:
                batch.close()
        except StoreError as error:
            error.add_note(left_open(batch.id))
            raise

    def _left_open(self, batch: Batch) -> BatchInfo:
        """How it stands, its members on disk. One that was cancelled takes no more: it is closed, so that it ends."""
        batch.store.sync()
        info = batch.status()
        return info if info.cancelled_at is None else batch.close()

"""What a store does for batches. It keeps their counts and enqueues their callbacks by itself, as members end.

A batch ends when it is closed and its last member has ended: in that transaction its callbacks are enqueued, each once
in its life. A failed or cancelled member that is enqueued again (`retry`, `replay`) hands its place to the new job; a
batch that had ended has not then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from mpdispatch.model import BatchInfo, Job, Member, NewBatch, Page
from mpdispatch.store.filters import BatchFilter

_BEFORE_ALL = -(1 << 63)


class BatchStore(Protocol):
    """All that is done to batches. Members are enqueued by `Store.enqueue` and `Store.enqueue_many`."""

    def open(self, new: NewBatch) -> BatchInfo:
        """A new batch, open and without members. If there is one with its key, returns that one as it is."""
        ...

    def close(self, batch_id: int) -> BatchInfo:
        """It takes no more members, and ends once they have ended; closing it again changes nothing.

        Raises BatchNotFoundError.
        """
        ...

    def get(self, batch_id: int) -> BatchInfo:
        """Raises BatchNotFoundError."""
        ...

    def with_key(self, key: str) -> BatchInfo | None:
        """The batch that has this key."""
        ...

    def page(self, where: BatchFilter, *, limit: int, cursor: str | None) -> Page[BatchInfo]:
        """Batches, newest first. Raises UsageError on an invalid cursor."""
        ...

    def cancel(self, batch_id: int) -> BatchInfo:
        """It takes no more members; the waiting ones are cancelled, the running ones asked to end.

        Waiting members are cancelled in short transactions. If the caller dies in between, a supervisor goes on. Does
        not close an open batch. On one that has ended nothing happens. Raises BatchNotFoundError.
        """
        ...

    def retry(self, batch_id: int, *, on_retry: Callable[[Sequence[Job]], object] | None = None) -> int:
        """Enqueue the failed members again, in short transactions. Returns their number. Raises BatchNotFoundError.

        `on_retry` is called with the new jobs of each transaction, once they are stored.
        """
        ...

    def members(self, batch_id: int, *, after_id: int, limit: int) -> list[Member]:
        """The next members by id, also those whose places other jobs have taken. For reading very many."""
        ...


def every_member(batches: BatchStore, batch_id: int, *, at_once: int) -> Iterator[Member]:
    """All that `BatchStore.members` gives, read as they are asked for, `at_once` per call."""
    after_id = _BEFORE_ALL
    while page := batches.members(batch_id, after_id=after_id, limit=at_once):
        yield from page
        after_id = page[-1].id

"""`Batch`, the jobs of one `enqueue_many`, and how they are stored in chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from typing import Any, Protocol

from mpdispatch.errors import BatchError, Fault, PayloadError
from mpdispatch.handlers.signature import Signature
from mpdispatch.model import Enqueued

CHUNK_JOBS = 5_000
"""Jobs per transaction: enough that a commit costs little, few enough that other writers get in between."""


class Batch:
    """Jobs enqueued together. `id` is None if there were none; iterating gives the job ids, in the order of the items."""

    __slots__ = ("_ranges", "id")

    def __init__(self, batch_id: int | None, ranges: Iterable[range]) -> None:
        self.id = batch_id
        self._ranges = tuple(ranges)

    @property
    def count(self) -> int:
        return sum(map(len, self._ranges))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self._ranges)

    def __repr__(self) -> str:
        return f"<Batch id={self.id} count={self.count}>"


class AddJobs(Protocol):
    """Stores a chunk in one transaction."""

    def __call__(self, payloads: Sequence[bytes], batch: int | None, /, *, closes: bool) -> Enqueued:
        """One job for each payload, in this batch (None: a new one). `closes`: it is the last chunk."""
        ...


def compact(ids: Sequence[int]) -> Iterable[range]:
    """The same numbers, in few ranges where they follow each other: a million ids need no list.

    >>> list(compact([4, 5, 6, 9, 2, 3]))
    [range(4, 7), range(9, 10), range(2, 4)]
    """
    if isinstance(ids, range) and ids.step == 1:
        return [ids]
    # Where it grows by one with each id, they follow each other.
    runs = (list(run) for _, run in groupby(enumerate(ids), key=lambda pair: pair[1] - pair[0]))
    return [range(run[0][1], run[-1][1] + 1) for run in runs]


def enqueue_batch(
    add_jobs: AddJobs,
    signature: Signature,
    items: Iterable[Mapping[str, Any]],
    *,
    max_bytes: int,
) -> Batch:
    """Store one job for each of the items, chunk by chunk as they come.

    Raises:
        BatchError: an item does not fit.
        StoreError: a chunk could not be stored; a note of the error says how many jobs are.
    """
    ranges: list[range] = []
    chunk: list[bytes] = []
    seen = 0
    batch_id: int | None = None

    def flush(*, closes: bool) -> None:
        nonlocal batch_id
        batch_id, ids = add_jobs(chunk, batch_id, closes=closes)
        ranges.extend(compact(ids))
        chunk.clear()

    try:
        for item in items:
            chunk.append(_payload(signature, item, max_bytes))
            seen += 1
            if len(chunk) == CHUNK_JOBS:
                flush(closes=False)
        if chunk or batch_id is not None:
            flush(closes=True)
    except PayloadError as error:
        stored = sum(map(len, ranges))
        if batch_id is not None:
            add_jobs([], batch_id, closes=True)
        raise BatchError(
            signature.job_name, error.faults, index=seen, stored=stored, batch_id=batch_id
        ) from None
    except Exception as error:
        if ranges:
            error.add_note(f"{sum(map(len, ranges)):,} jobs of this batch ({batch_id}) are enqueued already")
        raise
    return Batch(batch_id, ranges)


def _payload(signature: Signature, item: object, max_bytes: int) -> bytes:
    if not isinstance(item, Mapping) or not all(isinstance(name, str) for name in item):
        text = f"must be a mapping of argument names to values, not {type(item).__name__}"
        raise PayloadError(signature.job_name, [Fault("", text)])
    return signature.encode((), item, max_bytes=max_bytes)

"""`Batch`, the jobs of one `enqueue_many`, and how they are stored in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from typing import Any

from mpdispatch.errors import BatchError, Fault, PayloadError
from mpdispatch.handlers.signature import Signature

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
    add_jobs: Callable[[Sequence[bytes], int | None], Sequence[int]],
    signature: Signature,
    items: Iterable[Mapping[str, Any]],
    *,
    max_bytes: int,
) -> Batch:
    """Store one job for each of the items, chunk by chunk as they come.

    `add_jobs(payloads, batch id)` stores a chunk in one transaction and gives the ids of its jobs.

    Raises:
        BatchError: an item does not fit.
        StoreError: a chunk could not be stored; a note of the error says how many jobs are.
    """
    ranges: list[range] = []
    chunk: list[bytes] = []
    seen = 0

    def batch_id() -> int | None:
        return ranges[0][0] if ranges else None

    def flush() -> None:
        if chunk:
            ranges.extend(compact(add_jobs(chunk, batch_id())))
            chunk.clear()

    try:
        for item in items:
            chunk.append(_payload(signature, item, max_bytes))
            seen += 1
            if len(chunk) == CHUNK_JOBS:
                flush()
        flush()
    except PayloadError as error:
        stored = sum(map(len, ranges))
        raise BatchError(
            signature.job_name, error.faults, index=seen, stored=stored, batch_id=batch_id()
        ) from None
    except Exception as error:
        if ranges:
            error.add_note(f"{sum(map(len, ranges)):,} jobs of this batch ({batch_id()}) are enqueued already")
        raise
    return Batch(batch_id(), ranges)


def _payload(signature: Signature, item: object, max_bytes: int) -> bytes:
    if not isinstance(item, Mapping) or not all(isinstance(name, str) for name in item):
        text = f"must be a mapping of argument names to values, not {type(item).__name__}"
        raise PayloadError(signature.job_name, [Fault("", text)])
    return signature.encode((), item, max_bytes=max_bytes)

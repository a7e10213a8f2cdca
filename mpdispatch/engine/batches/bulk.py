"""Stores very many jobs: in chunks, as a generator gives their arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol

from mpdispatch.errors import BatchError, Fault, PayloadError
from mpdispatch.handlers.signature import Signature
from mpdispatch.model import Enqueued, NewBatch

CHUNK_JOBS = 5_000
"""Jobs per transaction: enough that a commit costs little, few enough that other writers get in between."""


class AddJobs(Protocol):
    """Stores a chunk in one transaction."""

    def __call__(self, payloads: Sequence[bytes], batch: NewBatch | int, /, *, closes: bool) -> Enqueued:
        """One job for each payload, in this batch. `closes`: it is the last chunk of all."""
        ...


def as_ranges(ids: Sequence[int]) -> Iterable[range]:
    """The same numbers, in few ranges where they follow each other: a million ids need no list.

    >>> list(as_ranges([4, 5, 6, 9, 2, 3]))
    [range(4, 7), range(9, 10), range(2, 4)]
    """
    if isinstance(ids, range) and ids.step == 1:
        return [ids]
    # Where it grows by one with each id, they follow each other.
    runs = (list(run) for _, run in groupby(enumerate(ids), key=lambda pair: pair[1] - pair[0]))
    return [range(run[0][1], run[-1][1] + 1) for run in runs]


class _Chunks:
    """The jobs of a batch, stored chunk by chunk."""

    def __init__(self, add_jobs: AddJobs, batch: NewBatch | int) -> None:
        self._add_jobs, self._into = add_jobs, batch
        self.is_new = not isinstance(batch, int)
        self.ranges: list[range] = []

    @property
    def batch_id(self) -> int | None:
        """None: nothing of a new batch is stored."""
        return self._into if isinstance(self._into, int) else None

    @property
    def stored(self) -> int:
        return sum(map(len, self.ranges))

    def add(self, chunk: Sequence[bytes], *, is_last: bool) -> int:
        """Store these jobs; gives the id of the batch. A new one is closed with its last chunk."""
        made = self._add_jobs(chunk, self._into, closes=is_last and self.is_new)
        assert made.batch_id is not None  # a batch is named
        self._into = made.batch_id
        self.ranges.extend(as_ranges(made.ids))
        return made.batch_id


def enqueue_batch(
    add_jobs: AddJobs,
    signature: Signature,
    items: Iterable[Mapping[str, Any]],
    *,
    batch: NewBatch | int,
    max_bytes: int,
    at_most: int | None = None,
) -> tuple[int, Sequence[range]]:
    """Store one job for each of the items, chunk by chunk as they come; gives the id of the batch and those of the jobs.

    `batch`: a new one, which is closed with the last item, or the id of an open one, which stays open. `at_most`: the most
    jobs per chunk, if fewer than CHUNK_JOBS.

    Raises:
        BatchError: an item does not fit.
        StoreError: a chunk could not be stored; a note of the error says how many jobs are.
    """
    chunks = _Chunks(add_jobs, batch)
    chunk: list[bytes] = []
    seen, most = 0, min(CHUNK_JOBS, at_most or CHUNK_JOBS)
    try:
        for item in items:
            chunk.append(_payload(signature, item, max_bytes))
            seen += 1
            if len(chunk) == most:
                chunks.add(chunk, is_last=False)
                chunk = []
        return chunks.add(chunk, is_last=True), chunks.ranges
    except PayloadError as error:
        if chunks.is_new and chunks.batch_id is not None:
            chunks.add([], is_last=True)
        raise BatchError(
            signature.job_name, error.faults, index=seen, stored=chunks.stored, batch_id=chunks.batch_id
        ) from None
    except Exception as error:
        if chunks.batch_id is not None and chunks.stored:
            error.add_note(f"{chunks.stored:,} jobs of this batch ({chunks.batch_id}) are enqueued already")
            if chunks.is_new:
                error.add_note(left_open(chunks.batch_id))
        raise


def left_open(batch_id: int) -> str:
    """A note for whoever could not make a batch whole."""
    return (
        f"batch {batch_id} is left open: add the rest and close it (`batch = engine.batches.get({batch_id})`,"
        f" `batch.add(…)`, `batch.close()`), or cancel it (`batch.cancel()`, `mpdispatch batch {batch_id} --cancel`)"
    )


def _payload(signature: Signature, item: object, max_bytes: int) -> bytes:
    if not isinstance(item, Mapping) or not all(isinstance(name, str) for name in item):
        text = f"must be a mapping of argument names to values, not {type(item).__name__}"
        raise PayloadError(signature.job_name, [Fault("", text)])
    return signature.encode((), item, max_bytes=max_bytes)

"""The jobs that a new job waits for, as `options(after=...)` gives them. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

import msgspec

from mpdispatch.errors import UsageError
from mpdispatch.model import Job
from mpdispatch.policy.names import shown

if TYPE_CHECKING:
    from mpdispatch.engine.batches.batch import Batch
    from mpdispatch.store.contract import Store

MOST = 100_000
"""The most parents of one job. Storing them takes half a second, in which nobody else writes."""
MOST_OF_MANY = 100
"""The most parents of each of many jobs that are enqueued at once."""
_PAIRS_AT_ONCE = 50_000
"""The most pairs of parent and job per transaction, which take 0.1 s."""
_MOST_ID = (1 << 63) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

After: TypeAlias = Job | int | Iterable[Job | int | Iterable[int]]
"""A Job, the id of one, a Batch (whose items are ids), or a list of these."""


class Parents(msgspec.Struct, frozen=True):
    """Checked parents."""

    ids: tuple[int, ...]
    """Each once, in the order given."""
    created_us: tuple[tuple[int, int], ...] = ()
    """Id and wall time of creation of those given as a Job: a job of another store has another time."""
    batches: tuple[Batch, ...] = ()
    """Those that were given, whose jobs are among them."""

    def refuse_other_store(self, store: Store) -> None:
        """Raise UsageError: a batch is of another store."""
        for batch in self.batches:
            if batch.store is not store and (store.file is None or batch.store.file != store.file):
                where, own = batch.store.display, store.display
                text = (
                    f"batch {batch.id} is of another store ({where}); a job can only wait for jobs of its own"
                )
                raise UsageError(f"after: {text} ({own})")


def jobs_at_once(parents: Sequence[int]) -> int:
    """How many jobs with these parents may be stored per transaction.

    Raises UsageError: the pairs of so many parents with many jobs would fill the disk.
    """
    if len(parents) > MOST_OF_MANY:
        raise UsageError(
            f"after: must be at most {MOST_OF_MANY} jobs if many wait for them, not {len(parents):,}; have one job wait for"
            " all of these, and the many for that one"
        )
    return _PAIRS_AT_ONCE // max(1, len(parents))


def read(value: object) -> Parents:
    """The parents that `after` names. Raises UsageError.

    >>> read([3, range(5, 7), 3]).ids
    (3, 5, 6)
    """
    ids, created_us = dict[int, None](), dict[int, int]()
    batches: list[Batch] = []
    for each in _flat(value, batches):
        if type(each) is int and 0 < each <= _MOST_ID:
            ids[each] = None
        elif isinstance(each, Job):
            ids[each.id] = None
            created_us[each.id] = (each.created_at - _EPOCH) // _MICROSECOND
        else:
            raise UsageError(
                "after: must be a Job, the id of one (a whole number from 1), a Batch, or a list of these,"
                f" not {shown(each)}"
            )
        if len(ids) > MOST:
            raise UsageError(
                f"after: must be at most {MOST:,} jobs; of more, make a batch, and this job its callback"
            )
    return Parents(tuple(ids), tuple(created_us.items()), tuple(batches))


def _flat(value: object, batches: list[Batch], depth: int = 0) -> Iterator[object]:
    """The items, also of lists among them. Adds the batches met."""
    if not _is_list(value) or depth == 2:
        yield value
        return
    if _is_batch(value):
        batches.append(value)
    for each in value:
        yield from _flat(each, batches, depth + 1) if _is_list(each) else (each,)


def _is_batch(value: Iterable[object]) -> TypeGuard[Batch]:
    if isinstance(value, list | tuple | set | frozenset | range | Iterator):
        return False
    from mpdispatch.engine.batches.batch import Batch  # few jobs wait for one, and it imports much

    return isinstance(value, Batch)


def _is_list(value: object) -> TypeGuard[Iterable[object]]:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)

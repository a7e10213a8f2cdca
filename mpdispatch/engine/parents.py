"""The jobs that a new job waits for, as `options(after=...)` gives them. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeAlias, TypeGuard

import msgspec

from mpdispatch.errors import UsageError
from mpdispatch.model import Job
from mpdispatch.policy.names import shown

MOST = 100_000
"""Parents of one job: storing them takes half a second, in which nobody else writes."""
MOST_OF_MANY = 100
"""Parents of each of many jobs that are alike."""
_PAIRS_AT_ONCE = 50_000
"""Pairs of parent and job per transaction: 0.1 s."""
_MOST_ID = (1 << 63) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

After: TypeAlias = Job | int | Iterable[Job | int | Iterable[int]]
"""A Job, the id of one, a Batch (whose items are ids), or a list of these."""


class Parents(msgspec.Struct, frozen=True):
    """Checked parents."""

    ids: tuple[int, ...]
    """Each once, in the order given."""
    created_us: tuple[tuple[int, int], ...]
    """Id and wall time of creation of those given as a Job: a job of another store has another time."""


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
    for each in _flat(value):
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
    return Parents(tuple(ids), tuple(created_us.items()))


def _flat(value: object) -> Iterator[object]:
    if not _is_list(value):
        yield value
        return
    for each in value:
        if _is_list(each):
            yield from each
        else:
            yield each


def _is_list(value: object) -> TypeGuard[Iterable[object]]:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)

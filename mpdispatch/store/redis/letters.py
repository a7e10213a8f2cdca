"""Dead letters: reading, counting and purging them, in steps that look at a thousand at most."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mpdispatch.model import JobState
from mpdispatch.store.filters import DeadLetterFilter, PruneFilter
from mpdispatch.store.redis.arguments import where_letters
from mpdispatch.store.redis.link import Link
from mpdispatch.store.redis.pages import Step
from mpdispatch.store.redis.records import Extra, JobRecord

T = TypeVar("T")
_AT_ONCE = 1000
_PURGE_AT_ONCE = 200
"""Letters closed in a call."""


def step(link: Link, where: DeadLetterFilter, shown: Callable[[JobRecord, Extra], T]) -> Step[T]:
    """A step of a page, with each letter as `shown` gives it."""
    terms = where_letters(where)

    def next_ones(before: int | None, most: int) -> tuple[list[T], int | None]:
        reply = link.read("letters", where=terms, before=before, limit=most)
        found = [shown(each, reply.extra_at(place)) for place, each in enumerate(reply.records)]
        return found, reply.said["before"] or None

    return next_ones


def count(link: Link, queue: str | None) -> int:
    """Number of letters neither replayed nor purged."""
    found: int = link.read("letter_count", queue=queue).said["count"]
    return found


def open_failed(link: Link, where: PruneFilter) -> int:
    """Number of failed jobs, old enough and of that state, that only an open dead letter keeps."""
    if where.state not in (None, JobState.FAILED):
        return 0
    if where.ended_before_us is None:
        return count(link, None)
    look = step(link, DeadLetterFilter(failed_before_us=where.ended_before_us), lambda record, _: record.id)
    found, before = look(None, _AT_ONCE)
    total = len(found)
    while before is not None:
        found, before = look(before, _AT_ONCE)
        total += len(found)
    return total


def purge(link: Link, where: DeadLetterFilter) -> int:
    """Purge all of these, and return their number. Jobs that fail meanwhile keep theirs."""
    terms, purged = where_letters(where), 0
    before: int | None = None
    while True:
        said = link.write("purge", where=terms, before=before, limit=_PURGE_AT_ONCE).said
        purged += int(said["count"])
        before = said["before"] or None
        if before is None:
            return purged

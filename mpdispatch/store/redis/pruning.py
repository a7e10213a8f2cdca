"""Which ended jobs are deleted, and in which small steps. A step is one call of the server, of a few ms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from mpdispatch.model import JobState
from mpdispatch.store.filters import PruneFilter
from mpdispatch.store.redis.link import Link
from mpdispatch.store.values import Retention

_STATES = (JobState.COMPLETED, JobState.CANCELLED, JobState.FAILED)
_AT_ONCE = 200
"""Jobs looked at in a step."""

Ask = Callable[..., dict[str, Any]]
"""Makes a call that changes the store and gives what it says."""


def by_filter(link: Link, where: PruneFilter, *, dry_run: bool) -> Counter[JobState]:
    """Delete what somebody asks to delete; with `dry_run`, only count it."""

    def ask(call: str, **values: Any) -> dict[str, Any]:
        return link.write(call, **values).said

    gone = Counter[JobState]()
    states = [each for each in _STATES if where.state in (None, each)]
    counts = dict[str, int](ask("excess", states=states, keep=where.keep or 0)["counts"])
    for state in states:
        for count in _some(ask, state, counts[state], ended_before=where.ended_before_us, dry=dry_run):
            gone[state] += count
    if not dry_run:
        for _ in _batches(ask, before=where.ended_before_us):
            pass
    return +gone


def by_retention(ask: Ask, retention: Retention) -> Iterator[int]:
    """Delete what a supervisor need not keep; gives after each step how many jobs it has deleted. Ages are those by the
    server's clock."""
    for state in _STATES:
        age_us = retention.failed_us if state is JobState.FAILED else retention.ended_us
        if age_us is not None:
            count = ask("older", state=state, age=age_us)["count"]
            yield from _some(ask, state, count)
    if retention.limit is not None:
        counts = ask("excess", states=_STATES, keep=retention.limit)["counts"]
        for state in _STATES:
            yield from _some(ask, state, counts[state])
    if retention.ended_us is not None:
        yield from _batches(ask, age=retention.ended_us)
        yield from _crons(ask, age=retention.ended_us)
    elif retention.limit is not None:
        yield from _batches(ask)


def _some(
    ask: Ask, state: JobState, count: int, *, ended_before: int | None = None, dry: bool = False
) -> Iterator[int]:
    """Delete up to so many of the first settled jobs of a state. Those that stay are passed over."""
    skip = 0
    while skip < count:
        said = ask(
            "prune", state=state, skip=skip, count=count, most=_AT_ONCE, ended_before=ended_before, dry=dry
        )
        if not said["seen"]:
            return
        gone = 0 if dry else said["gone"]
        skip, count = skip + said["seen"] - gone, count - gone
        yield said["gone"]


def _batches(ask: Ask, **old: int | None) -> Iterator[int]:
    """Delete batches that ended before a time, or have an age; nothing said: any that ended."""
    after = 0
    while after is not False:
        after = ask("prune_batches", after=after, **old)["after"]
        yield 0


def _crons(ask: Ask, *, age: int) -> Iterator[int]:
    while ask("prune_crons", age=age)["count"]:
        yield 0

"""Which ended jobs are deleted, and in which small steps: each is a read, or a transaction of some milliseconds.

    a source, oldest first:  read the next rows ─▶ delete them, some hundred at a time ─▶ read the next rows …

A source is a list of ended jobs in the order of one index, and each job has a place in it: those of one state and queue
by when they ended; failed ones by when their dead letters were closed. So a failed job whose dead letter is open is in
no source, and any number of them costs nothing.

A `rounds.Round` runs the steps.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import Any, NamedTuple

import msgspec

from mpdispatch.failpoints import failpoint
from mpdispatch.model import JobState
from mpdispatch.store.filters import PruneFilter
from mpdispatch.store.sql import batch_pruning, cron_pruning
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.rounds import Step, Steps, read_step
from mpdispatch.store.values import Retention

Place = tuple[int, int]
"""Where a job is in its source: when it ended or its dead letter was closed, and an id."""

_BUDGET_S = 0.003
"""A transaction that has deleted for this long ends, since a claim waits for it."""
_PORTION = 50
"""Jobs deleted between two looks at the time."""
_READ = 1000
"""Rows per read: about 1 ms."""
_QUEUES = 500
_FIRST: Place = (-(1 << 63), -(1 << 63))
_LAST: Place = ((1 << 63) - 1, (1 << 63) - 1)
_NEVER_GIVEN = 1 << 62
_WITH_JOB = ("prune_payloads", "prune_results", "prune_attempts", "prune_outputs", "prune_parents")
_BLOCKS = (20_000, 2_000, 200, 20, 1)


class Source(NamedTuple):
    """Jobs of one state and queue; `queue` is None for failed ones, of all queues."""

    state: JobState
    queue: bytes | None

    def values(self) -> dict[str, Any]:
        return {} if self.queue is None else {"state": self.state.value, "queue": self.queue}

    def rows_between(self, after: Place, before: Place, ended_before_us: int) -> Step:
        """Gives the next rows: place (2), id of the job, whether it may be deleted."""
        values = {
            "at": after[0],
            "id": after[1],
            "before_at": before[0],
            "before_id": before[1],
            "ended_before": ended_before_us,
            "limit": _READ,
        }
        return read_step("closed_jobs" if self.queue is None else "ended_jobs", self.values() | values)

    def place_before(self, place: Place, count: int) -> Step:
        """Gives the place that is `count` jobs earlier than this one, as a row; no row: there are fewer."""
        values = self.values() | {"at": place[0], "id": place[1], "skip": count - 1}
        return read_step("closed_before" if self.queue is None else "ended_before", values)


# ---------------------------------------------------------------- which


def by_retention(retention: Retention, now_us: int) -> Steps[int]:
    """Delete what a supervisor need not keep. Gives the number of jobs."""
    gone = Counter[JobState]()
    sources = yield from _sources(None)
    for source in sources:
        age_us = retention.failed_us if source.queue is None else retention.ended_us
        if age_us is not None:
            yield from _sweep(source, (now_us - age_us, _FIRST[1]), gone=gone)
    if retention.limit is not None:
        for source, before in (yield from _excess(sources, retention.limit)).items():
            yield from _sweep(source, before, gone=gone)
    if retention.ended_us is not None:
        yield from batch_pruning.steps(now_us - retention.ended_us)
        yield from cron_pruning.steps(now_us - retention.ended_us)
    elif retention.limit is not None:
        yield from batch_pruning.steps(_LAST[0])
    return gone.total()


def by_filter(where: PruneFilter, *, dry_run: bool) -> Steps[Counter[JobState]]:
    """Delete what somebody asks to delete; with `dry_run`, only count it. Gives the number of jobs by state."""
    gone = Counter[JobState]()
    sources = yield from _sources(where.state)
    ended_before_us = _LAST[0] if where.ended_before_us is None else where.ended_before_us
    if where.keep is None:
        bounds = dict.fromkeys(sources, _LAST)
    else:
        bounds = yield from _excess(sources, where.keep)
    for source, before in bounds.items():
        if source.queue is not None:
            before = min(before, (ended_before_us, _FIRST[1]))
        yield from _sweep(source, before, ended_before_us, dry_run=dry_run, gone=gone)
    if not dry_run:
        yield from batch_pruning.steps(ended_before_us)
    return +gone


def open_failed(connection: Connection, where: PruneFilter) -> int:
    """Number of failed jobs that only an open dead letter keeps."""
    if where.state not in (None, JobState.FAILED):
        return 0
    before_us = _LAST[0] if where.ended_before_us is None else where.ended_before_us
    return int(connection.execute(QUERIES["open_failed"], (before_us,)).fetchone()[0])


def _sources(state: JobState | None) -> Steps[list[Source]]:
    found = list[Source]()
    for each in (JobState.COMPLETED, JobState.CANCELLED):
        after: bytes | None = b"" if state in (None, each) else None
        while after is not None:
            values = {"state": each.value, "after": after, "limit": _QUEUES}
            queues: list[tuple[bytes]] = yield read_step("ended_queues", values)
            found += [Source(each, queue) for (queue,) in queues]
            after = queues[-1][0] if len(queues) == _QUEUES else None
    if state in (None, JobState.FAILED):
        found.append(Source(JobState.FAILED, None))
    return found


def _excess(sources: Sequence[Source], keep: int) -> Steps[dict[Source, Place]]:
    """Where to delete each source up to, so that of all sources together the `keep` last jobs stay.

    Finds the last ones without reading them one by one. Of each source, a block of jobs is looked at by its earliest
    place, and the block whose earliest place is the latest is taken: whatever is later than that is in a block that is
    taken or in the next one of its source. So while a block of each source would still fit, all that is taken is among
    the last `keep`. Smaller blocks come closer, and blocks of one job give the exact place.
    """
    places, left = dict.fromkeys(sources, _LAST), keep
    for size in _BLOCKS:
        reserve = 0 if size == 1 else size * len(sources)
        if left < size + reserve:
            continue
        # A heap, the latest first; of two at one time, the failed one.
        ends = list[tuple[int, bool, int, Source]]()
        ask = list(sources)
        while True:
            for source in ask:
                if found := (yield source.place_before(places[source], size)):
                    (end,) = found
                    heappush(ends, (-end[0], source.queue is not None, -end[1], source))
            if not ends or left < size + reserve:
                break
            at, _, job_id, latest = heappop(ends)
            places[latest] = -at, -job_id
            left -= size
            ask = [latest]
    return places if left == 0 else {}


# ---------------------------------------------------------------- deleting


def _sweep(
    source: Source,
    before: Place,
    ended_before_us: int = _LAST[0],
    *,
    dry_run: bool = False,
    gone: Counter[JobState],
) -> Steps[None]:
    after = _FIRST
    while True:
        rows: list[tuple[int, int, int, int]] = yield source.rows_between(after, before, ended_before_us)
        ids = [job_id for *_, job_id, may_go in rows if may_go]
        if dry_run:
            gone[source.state] += len(ids)
            ids = []
        while ids:
            done, count = yield Step(lambda c, ids=ids: delete(c, ids), is_write=True)  # type: ignore[misc]
            gone[source.state] += count
            ids = ids[done:]
        if len(rows) < _READ:
            return
        after = rows[-1][:2]


def delete(connection: Connection, ids: Sequence[int]) -> tuple[int, int]:
    """Delete some of these jobs from the first on, with all their records, in the caller's transaction.

    Returns how many of the ids are done with, and how many jobs were deleted.
    """
    failpoint("prune.before_rows")
    until = time.monotonic() + _BUDGET_S
    done = count = 0
    while done < len(ids) and (done == 0 or time.monotonic() < until):
        count += _delete(connection, ids[done : done + _PORTION])
        done += _PORTION
    # Skip ids so high that they were written by hand: remembering one would leave no ids for new jobs.
    if given := [each for each in ids[:done] if each < _NEVER_GIVEN]:
        connection.execute(QUERIES["prune_up_to"], (str(max(given)),))
    return done, count


def _delete(connection: Connection, ids: Iterable[int]) -> int:
    wanted = msgspec.json.encode(list(ids)).decode()
    gone = [row[0] for row in connection.execute(QUERIES["prune_jobs"], (wanted,))]
    if gone:
        deleted = msgspec.json.encode(gone).decode()
        for query in _WITH_JOB:
            connection.execute(QUERIES[query], (deleted,))
    connection.execute(QUERIES["prune_dead_letters"], (wanted,))
    return len(gone)

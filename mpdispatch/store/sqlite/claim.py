"""Staging and claiming inside the supervisor's transaction.

    scheduled, retrying ──stage──▶ pending ──take──▶ running
                                     │  ▲
                                  refused known again
                                     ▼  │
                                    parked

Facts are read, the pure plan is asked, and only then rows are taken: nothing is claimed and put back.
One lazily read cursor per queue, already in due order by its index, merged over the queues.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from typing import NamedTuple

from mpdispatch import sqlite3
from mpdispatch.clock import Instant
from mpdispatch.failpoints import failpoint
from mpdispatch.ids import boot_id
from mpdispatch.model import ClaimedJob, ClaimFacts, ClaimPlan, Planner
from mpdispatch.store.sqlite.queries import QUERIES
from mpdispatch.store.sqlite.rows import Row, claimed_of

__all__ = [
    "Claim",
    "claim",
    "is_anything_claimable",
    "is_anything_staged",
    "next_due_us",
    "next_token_us",
    "stage",
]

STAGE_AT_MOST = 1000
PARK_AT_MOST = 1000
"""Per turn: one turn must not hold the write lock for long."""


class Claim(NamedTuple):
    jobs: list[ClaimedJob]
    parked: Mapping[str, int]
    has_more: bool


# ---------------------------------------------------------------- facts


def read_facts(connection: sqlite3.Connection, planner: Planner, now: Instant) -> ClaimFacts:
    """What the planner needs to know; counts and buckets only where there are limits."""
    running = {
        queue: connection.execute(QUERIES["running_in"], (queue,)).fetchone()[0] for queue in planner.limited
    }
    buckets = dict[str, int]()
    for queue in planner.rated:
        # A bucket of another boot is no bucket: boottime began anew.
        row = connection.execute(QUERIES["bucket"], (queue, boot_id())).fetchone()
        if row is not None and row[0] is not None:
            buckets[queue] = row[0]
    paused = frozenset(row[0] for row in connection.execute(QUERIES["paused"]))
    return ClaimFacts(now=now, running=running, buckets=buckets, paused=paused)


def _open_queues(plan: ClaimPlan, facts: ClaimFacts) -> dict[str, int]:
    return {queue: most for queue, most in plan.per_queue.items() if most > 0 and queue not in facts.paused}


def _claimable_parked_names(connection: sqlite3.Connection, planner: Planner) -> list[str]:
    names = [row[0] for row in connection.execute(QUERIES["parked_names"])]
    if not names:
        return []
    known = planner.known_names()
    return [name for name in names if (known is None or name in known) and planner.refusal(name) is None]


def is_anything_claimable(connection: sqlite3.Connection, planner: Planner, slots: int, now: Instant) -> bool:
    """Whether a claim would find a row. Reads only, so that an idle supervisor takes no write lock."""
    facts = read_facts(connection, planner, now)
    plan = planner.plan(slots, facts)
    queues = _open_queues(plan, facts) if plan.total > 0 else {}
    if not queues:
        return False
    if any(connection.execute(QUERIES["has_due"], (queue,)).fetchone() for queue in queues):
        return True
    return any(
        connection.execute(QUERIES["has_parked"], (name, queue)).fetchone()
        for name in _claimable_parked_names(connection, planner)
        for queue in queues
    )


# ---------------------------------------------------------------- what is due later


def next_due_us(connection: sqlite3.Connection, queues: Iterable[str]) -> int | None:
    """When the first scheduled or retrying job of these queues is due; one seek each."""
    rows = (connection.execute(QUERIES["next_due"], (queue,)).fetchone() for queue in queues)
    return min((row[0] for row in rows if row is not None), default=None)


def is_anything_staged(connection: sqlite3.Connection, planner: Planner, now: Instant) -> bool:
    """Whether a scheduled or retrying job has become due."""
    due = next_due_us(connection, planner.queues)
    return due is not None and due <= now.wall_us


def stage(connection: sqlite3.Connection, planner: Planner, now: Instant) -> bool:
    """Make due what has become due, at most STAGE_AT_MOST jobs; True: there may be more."""
    left = STAGE_AT_MOST
    for queue in planner.queues:
        if left > 0:
            left -= connection.execute(QUERIES["stage"], (queue, now.wall_us, left)).rowcount
    return left <= 0


def next_token_us(connection: sqlite3.Connection, planner: Planner, slots: int, now: Instant) -> int | None:
    """When a rate-limited queue gets its next token, if that is what holds a due job back."""
    if not planner.rated:
        return None
    facts = read_facts(connection, planner, now)
    plan = planner.plan(max(slots, 1), facts)
    held_back = (
        queue
        for queue in planner.rated
        if queue in planner.queues and queue not in facts.paused and plan.per_queue.get(queue, 0) <= 0
    )
    if any(connection.execute(QUERIES["has_due"], (queue,)).fetchone() for queue in held_back):
        return plan.next_token_us
    return None


# ---------------------------------------------------------------- claim


def _due_order(row: Row) -> tuple[int, int, int]:
    return -row[5], row[6], row[0]


def _candidates(
    connection: sqlite3.Connection, planner: Planner, queues: Mapping[str, int], open_cursors: ExitStack
) -> Iterator[Row]:
    def rows(query: str, values: tuple[str, ...]) -> sqlite3.Cursor:
        return open_cursors.enter_context(closing(connection.execute(QUERIES[query], values)))

    streams = [rows("due", (queue,)) for queue in queues]
    for name in _claimable_parked_names(connection, planner):
        streams += [rows("parked", (name, queue)) for queue in queues]
    return iter(streams[0]) if len(streams) == 1 else heapq.merge(*streams, key=_due_order)


def _choose(
    candidates: Iterable[Row], planner: Planner, left: dict[str, int], total: int
) -> tuple[list[Row], list[tuple[str, int]], bool]:
    """The rows to take, those to park (reason, id), and whether it stopped before it had seen all."""
    taken, parked = list[Row](), list[tuple[str, int]]()
    refusals = dict[str, str | None]()
    for row in candidates:
        name, queue = row[3], row[4]
        if left[queue] <= 0:
            continue
        if name not in refusals:
            refusals[name] = planner.refusal(name)
        reason = refusals[name]
        if reason is not None:
            parked.append((reason, row[0]))
            if len(parked) >= PARK_AT_MOST:
                return taken, parked, True
            continue
        taken.append(row)
        left[queue] -= 1
        if len(taken) >= total:
            return taken, parked, True
        if not any(left.values()):
            break
    return taken, parked, False


def claim(connection: sqlite3.Connection, owner: int, planner: Planner, slots: int, now: Instant) -> Claim:
    """Take up to `slots` due jobs, as planned, in due order; park those nobody here can run."""
    facts = read_facts(connection, planner, now)
    plan = planner.plan(slots, facts)
    left = _open_queues(plan, facts)
    total = min(plan.total, slots)
    if total <= 0 or not left:
        return Claim([], {}, False)
    with ExitStack() as open_cursors:
        candidates = _candidates(connection, planner, left, open_cursors)
        rows, parked, has_more = _choose(candidates, planner, left, total)
    if parked:
        connection.executemany(QUERIES["park"], parked)
    if rows:
        _take(connection, owner, rows, now)
        _charge(connection, planner, facts, rows)
    failpoint("claim.before_commit")
    jobs = [
        claimed_of(row, payload=_large(connection, row[0]) if row[10] is None else row[10], this_start=1)
        for row in rows
    ]
    reasons = dict[str, int]()
    for reason, _ in parked:
        reasons[reason] = reasons.get(reason, 0) + 1
    return Claim(jobs, reasons, has_more)


def _take(connection: sqlite3.Connection, owner: int, rows: list[Row], now: Instant) -> None:
    touched = connection.executemany(QUERIES["take"], [(owner, now.wall_us, row[0]) for row in rows]).rowcount
    assert touched == len(rows), f"claimed {touched} rows of {len(rows)} read in the same transaction"


def _charge(connection: sqlite3.Connection, planner: Planner, facts: ClaimFacts, rows: list[Row]) -> None:
    if not planner.rated:
        return
    taken = dict[str, int]()
    for row in rows:
        taken[row[4]] = taken.get(row[4], 0) + 1
    for queue, value in planner.charge(facts, taken).items():
        connection.execute(QUERIES["charge"], (queue, value, boot_id()))


def _large(connection: sqlite3.Connection, job_id: int) -> str | bytes:
    row = connection.execute(QUERIES["payload"], (job_id,)).fetchone()
    # A row without its payload was tampered with. No arguments decode from nothing: it fails in the worker.
    return b"" if row is None else row[0]

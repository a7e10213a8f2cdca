"""Staging and claiming inside the supervisor's transaction.

    scheduled, retrying ──stage──▶ pending ──take──▶ running
                                     │  ▲
                                  refused known again
                                     ▼  │
                                    parked
    due, but expired ──▶ cancelled

Facts are read, `policy.admission` plans, and only then rows are taken: no job is claimed and put back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import starmap
from typing import NamedTuple

import msgspec

from mpdispatch.clock import Instant
from mpdispatch.errors import LeaseLostError
from mpdispatch.failpoints import failpoint
from mpdispatch.ids import boot_id
from mpdispatch.model import ClaimedJob, ClaimFacts, ClaimRequest
from mpdispatch.policy.admission import charge, plan
from mpdispatch.store.sql import expiring
from mpdispatch.store.sql.candidates import (
    ID,
    PAYLOAD,
    QUEUE,
    HeldBack,
    OddRowError,
    Row,
    as_json,
    choose,
    claimable_parked,
)
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.follow_ups import Followed
from mpdispatch.store.sql.hot_path import HotPath
from mpdispatch.store.sql.mending import has_bad_text
from mpdispatch.store.sql.queries import QUERIES

STAGE_AT_MOST = 1000
"""Per commit: a commit must not hold the write lock for long."""


class Presence(NamedTuple):
    """Flags (0 or 1) for rare conditions, so that the common case skips their queries."""

    is_registered: int
    has_later: int
    """Any job, in any queue, is scheduled or retrying."""
    has_parked: int
    has_paused: int
    """Any queue is paused."""
    has_followers: int
    """Any batch has not ended, or any job waits for others."""
    has_cancelling: int
    """The members of any batch are being cancelled."""


class Claim(NamedTuple):
    jobs: list[ClaimedJob]
    parked: Mapping[str, int]
    expired: Followed
    """Jobs that have expired, and what followed."""
    has_more: bool
    held: HeldBack


# ---------------------------------------------------------------- facts


def probe(connection: Connection, owner: int) -> Presence:
    """Read the flags. Raises LeaseLostError if the owner is no longer registered."""
    seen = Presence(*connection.execute(QUERIES["probe"], (owner,)).fetchone())
    if not seen.is_registered:
        raise LeaseLostError(owner)
    return seen


def read_facts(connection: Connection, request: ClaimRequest, now: Instant, seen: Presence) -> ClaimFacts:
    """The facts a plan needs; counts and buckets only for limited queues."""
    running = {
        queue: connection.execute(QUERIES["running_in"], (queue,)).fetchone()[0] for queue in request.limited
    }
    buckets = dict[str, int]()
    for queue in request.rated:
        # Ignore a bucket of another boot: boottime restarted.
        row = connection.execute(QUERIES["bucket"], (queue, boot_id())).fetchone()
        if row is not None and row[0] is not None:
            buckets[queue] = row[0]
    paused = frozenset[str]()
    if seen.has_paused:
        paused = frozenset(row[0] for row in connection.execute(QUERIES["paused"]))
    return ClaimFacts(now=now, running=running, buckets=buckets, paused=paused)


def _queues_with_due(connection: Connection, queues: Iterable[str]) -> list[str]:
    return [row[0] for row in connection.execute(QUERIES["queues_with_due"], (as_json(queues),))]


class Found(NamedTuple):
    """The result of `look_for_work`."""

    is_claimable: bool
    held_back: Mapping[str, int]
    """See `CommitResult`."""


def look_for_work(connection: Connection, request: ClaimRequest, now: Instant, seen: Presence) -> Found:
    """Whether a claim would find a row. Reads only, so that an idle supervisor takes no write lock."""
    facts = read_facts(connection, request, now, seen)
    planned = plan(request, facts)
    queues: Collection[str] = planned.per_queue if planned.total > 0 else ()
    held_back = dict[str, int]()
    rated = request.rated
    if planned.ready == 0 and (waiting := [queue for queue in queues if queue in rated]):
        held_back = dict.fromkeys(_queues_with_due(connection, waiting), 1)
        queues = [queue for queue in queues if queue not in rated]
    if not queues:
        return Found(False, held_back)
    if _queues_with_due(connection, queues):
        return Found(True, held_back)
    return Found(bool(seen.has_parked and claimable_parked(connection, request, queues)), held_back)


# ---------------------------------------------------------------- what is due later


def due_in_us(connection: Connection, queues: Iterable[str], now: Instant, seen: Presence) -> int | None:
    """Time until the first scheduled or retrying job of these queues is due."""
    if not seen.has_later:
        return None
    found: int | None = connection.execute(QUERIES["next_due"], (as_json(queues),)).fetchone()[0]
    return None if found is None else found - now.wall_us


def is_anything_staged(connection: Connection, queues: Iterable[str], now: Instant, seen: Presence) -> bool:
    """Whether a scheduled or retrying job has become due."""
    due = due_in_us(connection, queues, now, seen)
    return due is not None and due <= 0


def stage(connection: Connection, queues: Iterable[str], now: Instant, seen: Presence) -> bool:
    """Move up to STAGE_AT_MOST jobs that have become due to pending; True: there may be more."""
    if not is_anything_staged(connection, queues, now, seen):
        return False
    left = STAGE_AT_MOST
    for queue in queues:
        for state in ("scheduled", "retrying"):
            if left > 0:
                left -= connection.execute(QUERIES["stage"], (queue, state, now.wall_us, left)).rowcount
    return left <= 0


def token_in_us(connection: Connection, request: ClaimRequest, now: Instant, seen: Presence) -> int | None:
    """Time until a rate-limited queue gets its next token, if a due job waits for one."""
    if not (rated := request.rated):
        return None
    facts = read_facts(connection, request, now, seen)
    planned = plan(msgspec.structs.replace(request, slots=max(request.slots, 1)), facts)
    held_back = [queue for queue in rated if queue not in facts.paused and queue not in planned.per_queue]
    if planned.next_token_us is None or not held_back or not _queues_with_due(connection, held_back):
        return None
    return planned.next_token_us - now.boot_us


# ---------------------------------------------------------------- claim


def claim(
    connection: Connection, owner: int, request: ClaimRequest, now: Instant, seen: Presence, hot_path: HotPath
) -> Claim:
    """Take up to `slots` due jobs by the plan, in due order.

    Of the jobs met on the way, those that this supervisor cannot run are parked, and those that have expired are ended.
    """
    facts = read_facts(connection, request, now, seen)
    planned = plan(request, facts)
    if planned.total <= 0:
        return Claim([], {}, Followed(), False, HeldBack())
    rows, parked, expired, has_more, held = choose(
        connection,
        request,
        planned,
        now.wall_us,
        has_parked=bool(seen.has_parked),
        open_due=hot_path.open_due,
    )
    if planned.ready is not None and planned.total < request.slots and not (parked or expired):
        has_more = False  # everything within the limits was taken; `token_in_us` says when there is more
    reasons, ended = _leave_out(connection, parked, expired, now)
    if rows:
        rows = hot_path.take(connection, owner, rows, now)
        _charge(connection, request, facts, rows)
    failpoint("claim.before_commit")
    if any(row[PAYLOAD] is None for row in rows):
        rows = [row if row[PAYLOAD] is not None else with_large(connection, row) for row in rows]
    return Claim(list(starmap(ClaimedJob, rows)), reasons, ended, has_more or ended.has_due, held)


def _leave_out(
    connection: Connection, parked: list[tuple[str, int]], expired: list[ClaimedJob], now: Instant
) -> tuple[dict[str, int], Followed]:
    """Park some jobs and end others. Returns the number parked by reason, and what followed."""
    if parked:
        connection.executemany(QUERIES["park"], parked)
    reasons = dict[str, int]()
    for reason, _ in parked:
        reasons[reason] = reasons.get(reason, 0) + 1
    return reasons, expiring.end(connection, expired, now) if expired else Followed()


def readable(rows: list[Row]) -> list[ClaimedJob]:
    """The readable rows of the query `jobs_of`, as ClaimedJobs."""
    jobs = starmap(ClaimedJob, (row for row in rows if not has_bad_text(row[:PAYLOAD])))
    return [job for job in jobs if job.id > 0 and 0 < job.attempt <= job.starts]


def take(connection: Connection, owner: int, rows: list[Row], now: Instant) -> list[Row]:
    """A `Take` for a backend where nobody else writes meanwhile."""
    values = (owner, now.wall_us, as_json(row[ID] for row in rows))
    touched = connection.execute(QUERIES["take"], values).rowcount
    if touched < len(rows):
        touched += connection.execute(QUERIES["take_again"], values).rowcount
    if touched != len(rows):
        raise OddRowError(f"claimed {touched} rows of {len(rows)} read in the same transaction")
    return rows


def with_large(connection: Connection, row: Row) -> Row:
    """The row of a claimed job with its payload, which stands apart."""
    found = connection.execute(QUERIES["payload"], (row[ID],)).fetchone()
    # A missing payload was deleted by hand. An empty one cannot be decoded: the job fails in the worker.
    payload = b"" if found is None or found[0] is None else found[0]
    return (*row[:PAYLOAD], payload)


def _charge(connection: Connection, request: ClaimRequest, facts: ClaimFacts, rows: list[Row]) -> None:
    if not request.rated:
        return
    taken = dict[str, int]()
    for row in rows:
        taken[row[QUEUE]] = taken.get(row[QUEUE], 0) + 1
    for queue, value in charge(request, facts, taken).items():
        connection.execute(QUERIES["charge"], (queue, value, boot_id()))

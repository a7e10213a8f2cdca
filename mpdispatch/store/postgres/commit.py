"""A commit of a supervisor in few round trips: one statement records completions, counts members and claims.

It does for what is common what `store.sql.commit` does for everything: one queue without limits, nothing parked, paused or
due later, no cancelled batch. What it meets besides is left to the other one, in the same transaction or, if it has
claimed what may not be started, in a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap
from typing import Any, NamedTuple

import msgspec

from mpdispatch.clock import Clock, Instant
from mpdispatch.errors import LeaseLostError
from mpdispatch.failpoints import failpoint
from mpdispatch.model import ClaimedJob, ClaimRequest
from mpdispatch.policy.expiry import has_expired
from mpdispatch.store.postgres.dialect import OWN
from mpdispatch.store.postgres.hot_path import HOT_PATH, arrays_of
from mpdispatch.store.sql import claim, finish, follow_ups, outputs
from mpdispatch.store.sql import commit as general
from mpdispatch.store.sql.candidates import ID, PAYLOAD, Row
from mpdispatch.store.sql.claim import Presence
from mpdispatch.store.sql.commit import Commit
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.finish import SomeRejectedError
from mpdispatch.store.sql.follow_ups import Followed, Judged
from mpdispatch.store.values import CommitResult

_FLAGS = len(Presence._fields)
_ROW = _FLAGS + 4
"""Where the columns of a claimed job begin."""
_NAME, _PRIORITY, _RUN_AT_US, _EXPIRES_AT_US = map(
    ClaimedJob.__struct_fields__.index, ("name", "priority", "run_at_us", "expires_at_us")
)


class NotPlainError(Exception):
    """It has claimed what this supervisor cannot run, or what has expired. Roll back, and commit in the other way."""


def is_plain(commit: Commit) -> bool:
    """Whether `write` can do it, as far as the request says."""
    request = commit.request
    return request is None or (len(request.queues) == 1 and request.slots > 0 and not request.limits)


def write(connection: Connection, commit: Commit, clock: Clock) -> tuple[CommitResult, bool]:
    """As `store.sql.commit.write`. Raises NotPlainError as well."""
    values, count, others = finish.split(commit.transitions)
    if others:
        # What follows from their end comes before the claim.
        return general.write(connection, commit, clock, HOT_PATH)
    if commit.reports.progress:
        finish.record_progress(connection, commit.owner, commit.reports.progress)
    if commit.reports.outputs:
        outputs.record(connection, commit.owner, commit.reports.outputs)
    now = clock.now()
    found = _one_statement(connection, commit.owner, values, commit.request, now)
    seen = found.seen
    if not seen.is_registered:
        raise LeaseLostError(commit.owner)
    if found.done != count:
        raise SomeRejectedError
    failpoint("finish.before_commit")
    followed = _followed(connection, commit, found, now)
    if commit.request is None or not found.is_open:
        return general.claim_after(connection, commit, clock, seen, followed, [], [], HOT_PATH)
    if followed.has_due:
        raise NotPlainError
    return _claimed(connection, commit, commit.request, now, found, followed)


class _Found(NamedTuple):
    """What the statement has found and done."""

    seen: Presence
    has_dependents: int
    is_open: int
    """Whether it has claimed, as far as there was anything."""
    done: int
    """Number of completions recorded."""
    batches: list[Judged]
    """Those that completed jobs are members of."""
    rows: list[Row]
    """Claimed, in no order."""


def _followed(connection: Connection, commit: Commit, found: _Found, now: Instant) -> Followed:
    """What the end of these jobs, all of them completed, does to others."""
    followed = Followed()
    for batch in found.batches:
        follow_ups.judge(connection, batch, now, followed, is_worse=False)
    if found.has_dependents:
        completed = [each.job_id for each in commit.transitions]
        followed.add(follow_ups.run_dependents(connection, completed, now))
    if found.seen.has_cancelling:
        followed.add(follow_ups.cancel_some(connection, now)[0])
    return followed


def _one_statement(
    connection: Connection, owner: int, values: Sequence[Any], request: ClaimRequest | None, now: Instant
) -> _Found:
    found = connection.execute(
        OWN["commit"],
        {
            **arrays_of(values),
            "owner": owner,
            "queue": "" if request is None else request.queues[0],
            "slots": 0 if request is None else request.slots,
            "now": now.wall_us,
        },
    ).fetchall()
    first = found[0]
    has_dependents, is_open, done, judged = first[_FLAGS:_ROW]
    batches = [] if judged is None else [Judged(*each) for each in msgspec.json.decode(judged)]
    rows = [] if first[_ROW] is None else [row[_ROW:] for row in found]
    return _Found(Presence(*first[:_FLAGS]), has_dependents, is_open, done, batches, rows)


def _claimed(
    connection: Connection,
    commit: Commit,
    request: ClaimRequest,
    now: Instant,
    found: _Found,
    followed: Followed,
) -> tuple[CommitResult, bool]:
    rows = found.rows
    names = {row[_NAME] for row in rows}
    if not all(map(request.knows, names)) or any(has_expired(row[_EXPIRES_AT_US], now.wall_us) for row in rows):
        raise NotPlainError
    failpoint("claim.before_commit")
    rows = [row if row[PAYLOAD] is not None else claim.with_large(connection, row) for row in rows]
    rows.sort(key=lambda row: (-row[_PRIORITY], row[_RUN_AT_US], row[ID]))
    has_more = len(rows) >= request.slots
    result = CommitResult(
        claimed=list(starmap(ClaimedJob, rows)),
        rejected=[],
        cancelled=[],
        parked={},
        has_more=has_more,
        due_in_us=None if has_more else claim.due_in_us(connection, request.queues, now, found.seen),
        is_synced=commit.is_synced or not rows,
        ended=followed.ended,
        enqueued=followed.callbacks,
    )
    return result, followed.has_due

"""A commit of a supervisor: the transaction that records, stages and claims, and the read that finds nothing to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mpdispatch.clock import Clock, Instant
from mpdispatch.failpoints import failpoint
from mpdispatch.model import ClaimRequest, Transition
from mpdispatch.store.sql import cancels, claim, finish, follow_ups, outputs
from mpdispatch.store.sql.claim import Presence
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.follow_ups import Followed
from mpdispatch.store.sql.hot_path import HotPath
from mpdispatch.store.values import CommitResult, Reports


class Commit(NamedTuple):
    """What a supervisor commits."""

    owner: int
    transitions: Sequence[Transition]
    reports: Reports
    request: ClaimRequest | None

    @property
    def is_synced(self) -> bool:
        """Whether it records anything. A claim alone need not survive a power cut."""
        return bool(self.transitions or self.reports)

    @property
    def again(self) -> list[Transition]:
        """The outcomes whose jobs run again."""
        return [each for each in self.transitions if not each.state.is_terminal]


def write(
    connection: Connection, commit: Commit, clock: Clock, hot_path: HotPath, *, one_by_one: bool = False
) -> tuple[CommitResult, bool]:
    """Record, follow up, stage, claim, in the caller's transaction. Returns also whether a follow-up is due at once.

    Raises LeaseLostError; SomeRejectedError unless `one_by_one`.
    """
    owner = commit.owner
    if commit.reports.progress:
        finish.record_progress(connection, owner, commit.reports.progress)
    if commit.reports.outputs:
        outputs.record(connection, owner, commit.reports.outputs)
    recorded, rejected = commit.transitions, list[tuple[int, int]]()
    cancelled = cancelled_instead(connection, commit)
    if commit.transitions and one_by_one:
        recorded, rejected = finish.record_one_by_one(connection, owner, commit.transitions)
    elif commit.transitions:
        hot_path.record(connection, owner, commit.transitions)
    # After recording, since recorded jobs may be due later; if this owner is gone, this rolls back.
    seen = claim.probe(connection, owner)
    followed = follow_up(connection, recorded, cancelled, clock) if seen.has_followers else Followed()
    if seen.has_cancelling:
        followed.add(follow_ups.cancel_some(connection, clock.now())[0])
    return claim_after(connection, commit, clock, seen, followed, rejected, cancelled, hot_path)


def claim_after(
    connection: Connection,
    commit: Commit,
    clock: Clock,
    seen: Presence,
    followed: Followed,
    rejected: Sequence[tuple[int, int]],
    cancelled: Sequence[tuple[int, int]],
    hot_path: HotPath,
) -> tuple[CommitResult, bool]:
    """The second half of `write`: stage and claim, after the outcomes and what followed."""
    owner, request = commit.owner, commit.request
    if request is None:
        result = CommitResult(
            claimed=(),
            rejected=rejected,
            cancelled=cancelled,
            parked={},
            has_more=False,
            ended=followed.ended,
            enqueued=followed.callbacks,
        )
        return result, followed.has_due
    # Read the clock now: we may have waited for the lock, and a token is charged at the time of the claim.
    now = clock.now()
    has_more = claim.stage(connection, request.queues, now, seen)
    failpoint("claim.after_stage")
    made = claim.claim(connection, owner, request, now, seen, hot_path)
    has_more = has_more or made.has_more
    followed.add(made.expired)
    result = CommitResult(
        claimed=made.jobs,
        rejected=rejected,
        cancelled=cancelled,
        parked=made.parked,
        has_more=has_more,
        due_in_us=None if has_more else claim.due_in_us(connection, request.queues, now, seen),
        token_in_us=claim.token_in_us(connection, request, now, seen),
        held_back=made.held.counts,
        held_from=made.held.first,
        is_synced=commit.is_synced or not made.jobs,
        ended=followed.ended,
        enqueued=followed.callbacks,
    )
    return result, followed.has_due


def follow_up(
    connection: Connection,
    recorded: Sequence[Transition],
    cancelled: Sequence[tuple[int, int]],
    clock: Clock,
) -> Followed:
    """What the end of these jobs does to others."""
    ended = [each.job_id for each in recorded if each.state.is_terminal]
    ended += [job_id for job_id, _ in cancelled]
    return follow_ups.run(connection, ended, clock.now()) if ended else Followed()


def cancelled_instead(connection: Connection, commit: Commit) -> list[tuple[int, int]]:
    """The jobs that `finish` will cancel instead of running them again, because of a cancel request."""
    again = {(each.job_id, each.starts) for each in commit.again}
    return [each for each in cancels.requests(connection, commit.owner)[0] if each in again] if again else []


def idle_result(
    connection: Connection, owner: int, request: ClaimRequest | None, now: Instant
) -> CommitResult | None:
    """The result of a commit that records nothing and finds nothing to write; None if it finds something."""
    seen = claim.probe(connection, owner)
    due_in_us = token_in_us = None
    held_back: Mapping[str, int] = {}
    if request is not None:
        if claim.is_anything_staged(connection, request.queues, now, seen):
            return None
        if request.slots > 0:
            is_claimable, held_back = claim.look_for_work(connection, request, now, seen)
            if is_claimable:
                return None
        due_in_us = claim.due_in_us(connection, request.queues, now, seen)
        token_in_us = claim.token_in_us(connection, request, now, seen)
    return CommitResult(
        claimed=(),
        rejected=(),
        parked={},
        has_more=False,
        due_in_us=due_in_us,
        token_in_us=token_in_us,
        held_back=held_back,
    )

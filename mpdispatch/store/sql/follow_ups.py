"""What the end of jobs does to the batches they are members of, and to the jobs that wait for them.

    jobs have ended ─▶ batches count them ─▶ a batch ends ─▶ its callbacks are enqueued
                    │                     └▶ it has failed too often ─▶ its other members are cancelled ─┐
                    └▶ dependents become due, or are cancelled ─────────────────────────────────────────┤
          ▲                                                                                              │
          └──────────────────────────────── these have ended, too ◀─────────────────────────────────────┘

Every transaction that ends jobs calls `run`. In a store without batches and dependents it costs two seeks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from mpdispatch.clock import Instant
from mpdispatch.failpoints import failpoint
from mpdispatch.model import Cause, ClaimedJob, ErrorInfo, Job, JobState, NewJob, Transition
from mpdispatch.model.batch import callback_payload
from mpdispatch.policy.batches import exceeds
from mpdispatch.store.sql import dependents
from mpdispatch.store.sql.candidates import as_json
from mpdispatch.store.sql.columns import RUN_COLUMNS
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.mending import mended
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.rows import error_of

CANCEL_AT_ONCE = 2000
"""Members looked at per transaction: it must not hold the write lock for long (some 8 ms)."""
_AFTER_ALL = 1 << 62
"""An id after those of all members."""
_NO_JOB = (msgspec.DecodeError, TypeError, ValueError, OverflowError)
"""What comes of a stored callback that another program has changed, besides what its table refuses."""
_decode_job = msgspec.json.Decoder(NewJob).decode

Ended = tuple[ClaimedJob, Transition]
"""A job that the store has ended, as far as it is readable, and the transition that ended it."""


@dataclass(slots=True)
class Followed:
    """What the store did by itself, and a supervisor has to report."""

    ended: list[Ended] = field(default_factory=list)
    """Members and dependents that were cancelled; before them the jobs whose end began it, if nobody else reports them."""
    callbacks: list[Job] = field(default_factory=list)
    has_due: bool = False
    """Some jobs are due now: callbacks or dependents."""

    def __bool__(self) -> bool:
        return bool(self.ended or self.callbacks)

    def add(self, other: Followed) -> None:
        self.ended += other.ended
        self.callbacks += other.callbacks
        self.has_due = self.has_due or other.has_due


class Judged(NamedTuple):
    """What decides about a batch: the columns `columns.JUDGED`."""

    id: int
    is_open: int
    cancelled_at_us: int | None
    max_fails: int | None
    max_fail_share: float | None
    total: int
    completed: int
    failed: int
    cancelled: int

    @property
    def has_ended(self) -> bool:
        return not self.is_open and self.completed + self.failed + self.cancelled >= self.total


def run_for(connection: Connection, ended: list[Ended], now: Instant) -> Followed:
    """As `run`, for jobs that the store has ended; they stand first in what it returns."""
    followed = Followed(ended)
    if ended:
        followed.add(run(connection, [job.id for job, _ in ended], now))
    return followed


def run_after(connection: Connection, cancelled: Sequence[int], now: Instant) -> Followed:
    """As `run`, for jobs that the store has cancelled itself; they stand first in what it returns."""
    return run_for(connection, _reported(connection, cancelled, now), now)


def run(connection: Connection, ended: Iterable[int], now: Instant) -> Followed:
    """Do what follows from the end of these jobs, and from the ends that this causes in turn.

    A job among them that has not ended does not count.
    """
    followed = Followed()
    ids: Sequence[int] = list(ended)
    while ids:
        has_batches, has_dependents = connection.execute(QUERIES["has_followers"]).fetchone()
        more = list[int]()
        if has_batches:
            more += _count(connection, ids, now, followed)
        if has_dependents:
            more += _dependents(connection, ids, now, followed)
        followed.ended += _reported(connection, more, now)
        ids = more
    return followed


def run_dependents(connection: Connection, ended: Sequence[int], now: Instant) -> Followed:
    """As `run`, for ended jobs that their batches have counted already."""
    followed = Followed()
    more = _dependents(connection, ended, now, followed)
    followed.ended += _reported(connection, more, now)
    followed.add(run(connection, more, now))
    return followed


def _reported(connection: Connection, ids: Sequence[int], now: Instant) -> list[Ended]:
    """These cancelled jobs, for a supervisor's log and hooks."""
    if not ids:
        return []
    rows = connection.execute(QUERIES["cancelled_jobs"], (as_json(ids),)).fetchall()
    found = list[Ended]()
    for *row, error in rows:
        job = ClaimedJob(*mended(RUN_COLUMNS[:-1], row))
        message = ErrorInfo(type="JobCancelledError", message="its batch was cancelled")
        transition = Transition(
            job_id=job.id,
            starts=job.starts,
            state=JobState.CANCELLED,
            attempt=job.attempt,
            cause=Cause.CANCELLED,
            at_us=now.wall_us,
            error=message if error is None else error_of(error) or message,
            claim_attempt=job.attempt,
        )
        found.append((job, transition))
    return found


# ---------------------------------------------------------------- batches


def _count(connection: Connection, ids: Sequence[int], now: Instant, followed: Followed) -> list[int]:
    """Count ended members. Returns those that are cancelled because of it."""
    changes = dict[int, dict[str, int | None]]()
    for batch_id, state, count, started_at_us in connection.execute(QUERIES["ended_members"], (as_json(ids),)):
        change = changes.setdefault(
            batch_id, {"id": batch_id, "completed": 0, "failed": 0, "cancelled": 0, "started_at_us": None}
        )
        change[state] = count
        starts = [us for us in (change["started_at_us"], started_at_us) if us is not None]
        change["started_at_us"] = min(starts, default=None)
    cancelled = list[int]()
    for change in changes.values():
        row = connection.execute(QUERIES["count_ended"], change).fetchone()
        if row is not None:  # else an older mpdispatch has made it
            cancelled += judge(connection, Judged(*row), now, followed, is_worse=bool(change["failed"]))
    return cancelled


def judge(
    connection: Connection, batch: Judged, now: Instant, followed: Followed, *, is_worse: bool
) -> list[int]:
    """End the batch, or cancel what is left of it, if that is due. Returns the members that were cancelled.

    `is_worse`: its failures are more, or more of all, than they were. Else what was enqueued again after too many goes on.
    """
    if batch.has_ended:
        _end(connection, batch, now, followed)
        return []
    is_too_bad = is_worse and exceeds(
        failed=batch.failed,
        total=batch.total,
        is_open=bool(batch.is_open),
        max_fails=batch.max_fails,
        share=batch.max_fail_share,
    )
    if batch.cancelled_at_us is not None or not is_too_bad:
        return []
    connection.execute(QUERIES["mark_cancelled"], (now.wall_us, batch.id))
    # A small batch is done with at once; of a large one the next commits and upkeep cancel the rest.
    return _cancel_members(connection, batch.id, _AFTER_ALL, now)


def _end(connection: Connection, batch: Judged, now: Instant, followed: Followed) -> None:
    if not connection.execute(QUERIES["end_batch"], (now.wall_us, batch.id)).rowcount:
        return
    is_success = batch.completed == batch.total and batch.cancelled_at_us is None
    for event, job in connection.execute(QUERIES["open_callbacks"], (batch.id,)).fetchall():
        if event == "on_end" or event == ("on_success" if is_success else "on_failure"):
            _call_back(connection, batch.id, event, job, now, followed)
    failpoint("batch.ended")


def _call_back(
    connection: Connection, batch_id: int, event: str, stored: Any, now: Instant, followed: Followed
) -> None:
    from mpdispatch.store.sql.inserts import insert  # which imports what ends jobs

    connection.execute("SAVEPOINT mpdispatch_callback")
    try:
        # Without what could be refused: the batch has to end.
        job = msgspec.structs.replace(
            _decode_job(stored), payload=callback_payload(batch_id), batch_id=None, after=()
        )
        made = insert(connection, job, now)
        is_first = connection.execute(QUERIES["called_back"], (made.id, batch_id, event)).rowcount
    except (*_NO_JOB, connection.IntegrityError) as error:
        import logging  # no enqueuer needs it

        # Written by somebody else. The batch has ended all the same.
        connection.execute("ROLLBACK TO mpdispatch_callback")
        logging.getLogger(__name__).warning("batch %d: its callback %s is no job: %s", batch_id, event, error)
    else:
        if is_first:
            followed.callbacks.append(made)
            followed.has_due = True
    connection.execute("RELEASE mpdispatch_callback")


def cancel_some(connection: Connection, now: Instant, batch_id: int | None = None) -> tuple[Followed, bool]:
    """One step of cancelling the members of a batch that was cancelled: of this one, or of any.

    Returns what followed, and False if there was nothing to do.
    """
    row = connection.execute(QUERIES["cancelling_batch"], {"id": batch_id}).fetchone()
    if row is None:
        return Followed(), False
    found_id, before = row
    cancelled = _cancel_members(connection, found_id, before, now)
    return run_after(connection, cancelled, now), True


def _cancel_members(connection: Connection, batch_id: int, before: int, now: Instant) -> list[int]:
    """Cancel the waiting ones among the next members before this id, and ask running members to end.

    A member may be claimed, run and wait again between two steps. But whoever runs at any step is asked to end, and is
    not run again then: one pass over all members is enough.
    """
    values = {"id": batch_id, "before": before, "limit": CANCEL_AT_ONCE}
    found = connection.execute(QUERIES["last_members"], values).fetchall()
    cancelled = list[int]()
    if waiting := [job_id for job_id, is_waiting in found if is_waiting]:
        rows = connection.execute(QUERIES["cancel_these"], (now.wall_us, as_json(waiting))).fetchall()
        cancelled = [row[0] for row in rows]
        connection.execute(QUERIES["forget_dependents"], (as_json(cancelled),))
    connection.execute(QUERIES["cancel_running_members"], (now.wall_us, batch_id))
    goes_on_before = None if len(found) < CANCEL_AT_ONCE else found[-1][0]
    connection.execute(QUERIES["cancel_before"], (goes_on_before, batch_id))
    return cancelled


# ---------------------------------------------------------------- dependents


def _dependents(connection: Connection, ids: Sequence[int], now: Instant, followed: Followed) -> list[int]:
    """Go on with the jobs that wait for these. Returns the dependents that are cancelled."""
    connection.execute(QUERIES["forget_dependents"], (as_json(ids),))
    found = connection.execute(QUERIES["dependents_of"], (as_json(ids),)).fetchall()
    if not found:
        return []
    blamed: dict[int, int] = {job_id: parent_id for job_id, _, parent_id in found if parent_id is not None}
    left = [(count, job_id) for job_id, count, parent_id in found if parent_id is None]
    due = [job_id for count, job_id in left if count <= 0]
    if due or blamed:
        _go_on(connection, due, blamed, now)
    followed.has_due |= bool(due)
    connection.executemany(QUERIES["wait_for_fewer"], [each for each in left if each[0] > 0])
    return list(blamed)


def _go_on(connection: Connection, due: Sequence[int], blamed: Mapping[int, int], now: Instant) -> None:
    """These dependents are due; others are cancelled, each for the parent that is to blame."""
    connection.execute(QUERIES["all_parents_ended"], {"now": now.wall_us, "ids": as_json(due)})
    if blamed:
        states = connection.execute(QUERIES["ended_states"], (as_json({*blamed.values()}),)).fetchall()
        dependents.cancel(connection, blamed, dict(states), now)
    connection.execute(QUERIES["forget_dependents"], (as_json([*due, *blamed]),))

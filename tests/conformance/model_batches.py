"""The rules of batches and of jobs that wait for others, over dicts: part of the specification.

    open ──close──▶ closed ──the last member ends──▶ ended ──a member is enqueued again──▶ closed
      └──────────────┴── cancel, or too many failures: its members are cancelled

    a job that waits for parents ──the last of them ends──▶ due        └──one fails──▶ cancelled, due or waiting

All of it happens in the transaction that ends a job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from mpdispatch.errors import BatchClosedError, BatchNotFoundError, UnknownParentError
from mpdispatch.model import (
    BATCH_EVENTS,
    BatchInfo,
    Callback,
    Cause,
    ClaimedJob,
    ErrorInfo,
    Job,
    JobState,
    Member,
    NewBatch,
    NewJob,
    Page,
    Parent,
    Transition,
)
from mpdispatch.store.filters import BatchFilter
from mpdispatch.store.values import Dependents

from .rows import Row, claimed_job_of, moment_of, page_of

if TYPE_CHECKING:
    from .model import Model

__all__ = ["Batches", "Followed"]

_COUNTED = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


@dataclass(kw_only=True)
class Kept:
    """A batch and everything kept of it."""

    id: int
    new: NewBatch
    created_us: int
    is_open: bool = True
    started_us: int | None = None
    """The first start of the members that have ended."""
    ended_us: int | None = None
    cancelled_us: int | None = None
    total: int = 0
    ended: dict[JobState, int] = field(default_factory=lambda: dict.fromkeys(_COUNTED, 0))
    """Kept, as members may be pruned."""
    called_back: dict[str, int] = field(default_factory=dict)
    """The job of each event that was enqueued."""

    @property
    def has_too_many_failures(self) -> bool:
        failed, most, share = self.ended[JobState.FAILED], self.new.max_fails, self.new.max_fail_share
        return (most is not None and failed > most) or (
            share is not None and not self.is_open and failed > share * self.total
        )


@dataclass
class Followed:
    """What followed from the end of jobs, for the report of a commit."""

    ended: list[tuple[ClaimedJob, Transition]] = field(default_factory=list)
    callbacks: list[Job] = field(default_factory=list)
    has_due: bool = False
    """A callback or a dependent can be claimed now."""


class Batches:
    def __init__(self, model: Model) -> None:
        self._model = model
        self._kept: dict[int, Kept] = {}
        self._last_id = 0

    # ------------------------------------------------------------------------------------ what people do

    def open(self, new: NewBatch) -> BatchInfo:
        older = None if new.key is None else self.with_key(new.key)
        if older is not None:
            return older
        self._last_id += 1
        self._kept[self._last_id] = Kept(id=self._last_id, new=new, created_us=self._model._now.wall_us)
        return self.get(self._last_id)

    def close(self, batch_id: int) -> BatchInfo:
        batch = self._batch(batch_id)
        batch.is_open = False
        self.follow_up([], judged=[batch])
        return self.get(batch_id)

    def cancel(self, batch_id: int) -> BatchInfo:
        batch = self._batch(batch_id)
        if batch.cancelled_us is None and batch.ended_us is None:
            batch.cancelled_us = self._model._now.wall_us
        self.follow_up(self._cancel_members(batch))
        return self.get(batch_id)

    def retry(self, batch_id: int, *, on_retry: Callable[[Sequence[Job]], object] | None = None) -> int:
        self._batch(batch_id)
        failed = [
            row for row in self._members(batch_id) if row.state is JobState.FAILED and row.retried_as is None
        ]
        jobs = [job for row in failed if (job := self._model.retry(row.id)).created]
        if on_retry is not None and jobs:
            on_retry(jobs)
        return len(jobs)

    # ------------------------------------------------------------------------------------ reading

    def get(self, batch_id: int) -> BatchInfo:
        batch = self._batch(batch_id)
        live = [row for row in self._members(batch_id) if not row.state.is_terminal]
        counts = {state: sum(row.state is state for row in live) for state in JobState} | batch.ended
        starts = [batch.started_us] if batch.started_us is not None else []
        if batch.ended_us is None:
            starts += [row.started_at_us for row in live if row.owner is not None and row.started_at_us]
        return BatchInfo(
            id=batch_id,
            name=batch.new.name,
            created_at=moment_of(batch.created_us),
            started_at=moment_of(min(starts)) if starts else None,
            ended_at=None if batch.ended_us is None else moment_of(batch.ended_us),
            is_open=batch.is_open,
            cancelled_at=None if batch.cancelled_us is None else moment_of(batch.cancelled_us),
            total=batch.total,
            counts=counts,
            callbacks={
                event: Callback(batch.new.callbacks[event].name, batch.called_back.get(event))
                for event in BATCH_EVENTS
                if event in batch.new.callbacks
            },
            max_fails=batch.new.max_fails,
            max_fail_share=batch.new.max_fail_share,
            read_at=moment_of(self._model._now.wall_us),
        )

    def with_key(self, key: str) -> BatchInfo | None:
        return next((self.get(each.id) for each in self._kept.values() if each.new.key == key), None)

    def page(self, where: BatchFilter, *, limit: int, cursor: str | None) -> Page[BatchInfo]:
        found = [
            (each.id, self.get(each.id))
            for each in reversed(self._kept.values())
            if where.name in (None, each.new.name) and where.has_ended in (None, each.ended_us is not None)
        ]
        return page_of(found, limit, cursor)

    def members(self, batch_id: int, *, after_id: int, limit: int) -> list[Member]:
        rows = [row for row in self._members(batch_id) if row.id > after_id]
        return [Member(row.id, row.state, row.new.payload, row.result, row.retried_as) for row in rows[:limit]]

    def _batch(self, batch_id: int) -> Kept:
        if batch_id not in self._kept:
            raise BatchNotFoundError(batch_id)
        return self._kept[batch_id]

    def _members(self, batch_id: int) -> list[Row]:
        return [row for row in [*self._model._rows.values()] if row.new.batch_id == batch_id]

    # ------------------------------------------------------------------------------------ away

    def keeps(self, job_id: int) -> bool:
        """Whether a job that has not ended may read the result of this one: it is a parent of it."""
        rows = [*self._model._rows.values()]
        return any(job_id in row.parents and not row.state.is_terminal for row in rows)

    def prune(self, before_us: int | None) -> None:
        """Batches that ended before this, and whose members are all pruned."""
        for batch in [*self._kept.values()]:
            is_old = batch.ended_us is not None and (before_us is None or batch.ended_us < before_us)
            if is_old and not self._members(batch.id):
                del self._kept[batch.id]

    # ------------------------------------------------------------------------------------ new jobs

    def add(self, row: Row) -> None:
        """A new job takes its place in its batch, and waits for its parents."""
        if row.new.batch_id is not None:
            batch = self._batch(row.new.batch_id)
            if not batch.is_open or batch.cancelled_us is not None:
                raise BatchClosedError(batch.id, is_cancelled=batch.cancelled_us is not None)
            batch.total += 1
        self._wait(row)

    def _wait(self, row: Row) -> None:
        self._wait_for({self._latest(each, row.id).id for each in row.new.after}, row)

    def wait_again(self, old: Row, new: Row) -> None:
        """A job that is enqueued again waits for what is in the places of its parents now, without pruned ones."""
        parents = set[int]()
        for each in old.parents:
            with suppress(UnknownParentError):
                parents.add(self._latest(each, new.id).id)
        self._wait_for(parents, new)

    def _wait_for(self, parents: set[int], row: Row) -> None:
        row.parents = sorted(parents)
        failed = [
            each for each in parents if self._model.state_of(each) in (JobState.FAILED, JobState.CANCELLED)
        ]
        row.open_parents = {each for each in parents if not self._model.state_of(each).is_terminal}
        if row.new.on_parent_failure == "wait":
            row.open_parents |= {*failed}
        elif row.new.on_parent_failure == "cancel" and failed:
            self._blame(row, min(failed))
            self.follow_up([row])
        if row.open_parents:
            row.state = JobState.PENDING  # its time is looked at once they have ended

    def _latest(self, job_id: int, before_id: int) -> Row:
        """The job itself, or what has taken its place. Parents are older than their dependents: there are no cycles."""
        rows = {row.id: row for row in [*self._model._rows.values()] if row.id < before_id}
        while job_id in rows and (after := rows[job_id].retried_as) is not None:
            job_id = after
        if job_id not in rows:
            raise UnknownParentError([job_id])
        return rows[job_id]

    def replaced(self, old: Row, new: Row) -> None:
        """An ended job was enqueued again: the new one is a member in its place, and a parent in its place."""
        if new.new.batch_id is not None:
            batch = self._batch(new.new.batch_id)
            if old.retried_as is None:
                batch.ended[old.state] -= 1
            else:
                batch.total += 1  # its place went to a job that was pruned
            batch.ended_us = batch.cancelled_us = None
        for row in [*self._model._rows.values()]:
            if old.id in row.open_parents:
                row.open_parents = row.open_parents - {old.id} | {new.id}
                row.parents = sorted({*row.parents} - {old.id} | {new.id})

    def parents(self, job_id: int) -> list[Parent]:
        rows = {row.id: row for row in [*self._model._rows.values()]}
        mine = rows[job_id].parents if job_id in rows else []
        return [Parent(each, rows[each].state if each in rows else None) for each in mine]

    def awaited(self, job_id: int) -> list[Parent]:
        rows = {row.id: row for row in [*self._model._rows.values()]}
        still = rows[job_id].open_parents if job_id in rows else ()
        return [each for each in self.parents(job_id) if each.id in still]

    def dependents(self, job_id: int) -> Dependents:
        found = [row for row in [*self._model._rows.values()] if job_id in row.parents]
        return Dependents(sum(bool(row.open_parents) for row in found), len(found))

    # ------------------------------------------------------------------------------------ follow-ups

    def follow_up(self, ended: Iterable[Row], judged: Iterable[Kept] = ()) -> Followed:
        """What follows from the end of these jobs, and from the ends that this causes in turn."""
        followed = Followed()
        rows, batches = list(ended), list(judged)
        while rows or batches:
            # One that had too many failures, of which others were enqueued again, is judged anew at the next failure.
            worse = {
                *(each.id for each in batches),
                *(row.new.batch_id for row in rows if row.state is JobState.FAILED),
            }
            for row in rows:
                row.open_parents = set()
                if row.new.batch_id is not None:
                    batches.append(self._counted(row))
            # In the order of their ids, and so are the callbacks of several that end in one transaction.
            concerned = sorted({batch.id for batch in batches})
            cancelled = [
                row for each in concerned for row in self._judge(self._kept[each], followed, each in worse)
            ]
            for each in self._waiting_for(rows):
                cancelled += self._go_on(each, rows)
                followed.has_due |= not (each.open_parents or each.state.is_terminal)
            followed.ended += [_reported(row, self._model._now.wall_us) for row in cancelled]
            rows, batches = cancelled, []
        return followed

    def _counted(self, row: Row) -> Kept:
        assert row.new.batch_id is not None
        batch = self._kept[row.new.batch_id]
        batch.ended[row.state] += 1
        starts = [us for us in (batch.started_us, row.started_at_us) if us is not None]
        batch.started_us = min(starts, default=None)
        return batch

    def _judge(self, batch: Kept, followed: Followed, is_worse: bool) -> list[Row]:
        """End it, or cancel its members, if that is due; gives those."""
        if not batch.is_open and sum(batch.ended.values()) >= batch.total:
            if batch.ended_us is None:
                self._end(batch, followed)
            return []
        if is_worse and batch.cancelled_us is None and batch.has_too_many_failures:
            batch.cancelled_us = self._model._now.wall_us
            return self._cancel_members(batch)
        return []

    def _end(self, batch: Kept, followed: Followed) -> None:
        batch.ended_us = self._model._now.wall_us
        # Whoever cancels a batch, even one whose members have all completed by then, does not get what it was for.
        is_success = batch.ended[JobState.COMPLETED] == batch.total and batch.cancelled_us is None
        result = "on_success" if is_success else "on_failure"
        for event, job in sorted(batch.new.callbacks.items()):
            # Once in its life, however often it ends.
            if event in ("on_end", result) and event not in batch.called_back:
                payload = msgspec.json.encode({"batch": batch.id})
                made = self._model.enqueue(msgspec.structs.replace(job, payload=payload))
                batch.called_back[event] = made.id
                followed.callbacks.append(made)
                followed.has_due = True

    def _cancel_members(self, batch: Kept) -> list[Row]:
        """Ask the running members to end, and cancel the waiting ones; gives these."""
        cancelled = list[Row]()
        for row in self._members(batch.id):
            if row.owner is not None:
                row.is_cancel_requested = True
            elif not row.state.is_terminal:
                self._model._end_waiting(row)
                cancelled.append(row)
        return cancelled

    def _waiting_for(self, ended: list[Row]) -> list[Row]:
        ids = {row.id for row in ended}
        return [
            row for row in [*self._model._rows.values()] if row.open_parents & ids and not row.state.is_terminal
        ]

    def _go_on(self, row: Row, ended: list[Row]) -> Iterator[Row]:
        """A dependent after the end of some of its parents; gives it if it is cancelled."""
        policy = row.new.on_parent_failure
        for parent in sorted(ended, key=lambda each: each.id):
            if parent.id not in row.open_parents:
                continue
            if parent.state is JobState.COMPLETED or policy == "run":
                row.open_parents -= {parent.id}
            elif policy == "cancel":
                self._blame(row, parent.id)
                yield row
                return
        if not row.open_parents and row.run_at_us > self._model._now.wall_us:
            row.state = JobState.SCHEDULED

    def _blame(self, row: Row, parent_id: int) -> None:
        how = "failed" if self._model.state_of(parent_id) is JobState.FAILED else "was cancelled"
        row.last_error = ErrorInfo(
            type="ParentFailedError", message=f"job {parent_id}, which it waited for, {how}"
        )
        self._model._end_waiting(row)

    # ------------------------------------------------------------------------------------ a transaction

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """What an error leaves undone, all of it is."""
        before = {batch_id: copy(each) for batch_id, each in self._kept.items()}, self._last_id
        try:
            yield
        except Exception:
            self._kept, self._last_id = before
            raise


def _reported(row: Row, now_us: int) -> tuple[ClaimedJob, Transition]:
    job = msgspec.structs.replace(claimed_job_of(row), payload=b"")
    error = ErrorInfo(type="JobCancelledError", message="its batch was cancelled")
    if row.last_error is not None and row.last_error.type == "ParentFailedError":
        error = row.last_error
    return job, Transition(
        job_id=row.id,
        starts=row.starts,
        state=JobState.CANCELLED,
        attempt=row.attempt,
        cause=Cause.CANCELLED,
        at_us=now_us,
        error=error,
        claim_attempt=row.attempt,
    )


def plain_batch(jobs: Iterable[NewJob]) -> NewBatch:
    """The batch of an `enqueue_many` that names none."""
    return NewBatch(name=next(iter(jobs)).name)

"""Runs very many jobs again: finds their ids first, without their arguments, then a hundred per transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from mpdispatch.clock import sleep
from mpdispatch.errors import UsageError
from mpdispatch.model import Failure, Job, JobState, Retried
from mpdispatch.policy.names import shown
from mpdispatch.store.contract import Store
from mpdispatch.store.filters import DeadLetterFilter, JobFilter

_PAGE = 1000
_AT_ONCE = 100
"""Jobs per transaction. A claim waits some 10 ms for such a transaction."""
_PAUSE_S = 0.01
"""Longest pause between two transactions."""
RETRIABLE = (JobState.FAILED, JobState.RETRYING, JobState.SCHEDULED, JobState.CANCELLED)
"""States of jobs that can be told to run (again)."""


def refuse_unknown_batch(store: Store, selection: DeadLetterFilter | JobFilter) -> None:
    """Raises BatchNotFoundError if it is of a batch that is not there."""
    if selection.batch_id is not None:
        store.batches.get(selection.batch_id)


def refuse_everything(selection: DeadLetterFilter | JobFilter, everything: bool) -> None:
    """Raises UsageError if nothing says which jobs, and it is not said that all are meant."""
    names = ("queue", "name", "batch_id", "error")
    if not everything and all(getattr(selection, name, None) is None for name in names):
        raise UsageError("say which jobs: queue, name, batch or error; or everything=True")


def failures(store: Store, where: DeadLetterFilter) -> Iterator[Failure]:
    """The dead letters, the last failed first, read in steps."""
    cursor = None
    while True:
        page = store.failures(where, limit=_PAGE, cursor=cursor)
        yield from page.items
        if (cursor := page.next_cursor) is None:
            return


def failed_ids(store: Store, where: DeadLetterFilter) -> list[int]:
    """The jobs of open dead letters, the first failed first."""
    return [each.id for each in failures(store, where)][::-1]


def ids_in(store: Store, state: JobState, where: JobFilter, error: str | None) -> list[int]:
    """The jobs in this state that `where` selects and that can run again, the oldest first, read in steps."""
    if state is JobState.FAILED:
        letters = DeadLetterFilter(queue=where.queue, name=where.name, batch_id=where.batch_id, error=error)
        return failed_ids(store, letters)
    found, cursor = list[int](), None
    where = JobFilter(state=state, queue=where.queue, name=where.name, batch_id=where.batch_id)
    while True:
        page = store.list_jobs(where, limit=_PAGE, cursor=cursor)
        found += [
            job.id
            for job in page.items
            if job.retried_as is None and (error is None or error in str(job.last_error or ""))
        ]
        if (cursor := page.next_cursor) is None:
            return found[::-1]


def checked_states(state: JobState | str | None) -> Sequence[JobState]:
    """The state as a list; failed and retrying if there is none. Raises UsageError."""
    if state is None:
        return (JobState.FAILED, JobState.RETRYING)
    if state not in RETRIABLE:
        known = ", ".join(each.value for each in RETRIABLE)
        raise UsageError(f"state: must be one of {known}, not {shown(state)}: no other job can be retried")
    return (JobState(state),)


def run_again(store: Store, ids: Sequence[int], tell_all: Callable[[Sequence[Job]], object]) -> Retried:
    """Run these jobs again in short transactions, in this order; `tell_all` is called with the new jobs of each."""
    count, errors = 0, dict[int, str]()
    for start in range(0, len(ids), _AT_ONCE):
        part = ids[start : start + _AT_ONCE]
        began_s = time.monotonic()
        jobs, refused = store.retry_many(part)
        count += len(jobs)
        errors |= refused
        old = frozenset(part)
        tell_all([job for job in jobs if job.id not in old])
        # Half of the time is left to others: to supervisors that claim.
        sleep(min(time.monotonic() - began_s, _PAUSE_S) if start + _AT_ONCE < len(ids) else 0)
    return Retried(count=count, errors=errors)

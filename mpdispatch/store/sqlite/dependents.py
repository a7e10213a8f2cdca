"""Jobs that wait for other jobs, their parents. Inside a transaction that inserts jobs.

They are pending in lane 4, which no claim reads, and have a row that counts the parents still open.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mpdispatch import sqlite3
from mpdispatch.clock import Instant
from mpdispatch.errors import UnknownParentError
from mpdispatch.model import ErrorInfo, NewJob, OnParentFailure
from mpdispatch.store.sqlite.candidates import as_json
from mpdispatch.store.sqlite.queries import QUERIES
from mpdispatch.store.sqlite.rows import encode_error, stored_json

Executes = sqlite3.Connection | sqlite3.Cursor


class _Parent(NamedTuple):
    id: int
    state: str
    retried_as: int | None


def add(connection: Executes, ids: Sequence[int], job: NewJob, now: Instant) -> None:
    """Have these new jobs, alike but for their payloads, wait for the parents of `job`.

    If a parent has failed or was cancelled already, its policy applies at once. Raises UnknownParentError.
    """
    parents = list(_parents(connection, job.after))
    pairs = [(job_id, parent.id) for job_id in ids for parent in parents]
    connection.executemany(QUERIES["insert_parent"], pairs)
    failed = {each.id: each.state for each in parents if each.state in ("failed", "cancelled")}
    if failed and job.on_parent_failure == "cancel":
        _cancel_at_once(connection, ids, failed, now)
    elif count := sum(_is_open(each, job.on_parent_failure) for each in parents):
        connection.executemany(QUERIES["wait_in_lane_4"], [(job_id,) for job_id in ids])
        rows = [(job_id, job.queue, count, job.on_parent_failure) for job_id in ids]
        connection.executemany(QUERIES["insert_dependent"], rows)


def _is_open(parent: _Parent, on_failure: OnParentFailure) -> bool:
    if parent.state in ("failed", "cancelled"):
        return on_failure == "wait"
    return parent.state != "completed"


def _cancel_at_once(connection: Executes, ids: Sequence[int], failed: dict[int, str], now: Instant) -> None:
    from mpdispatch.store.sqlite import follow_ups  # which inserts jobs itself

    connection.executemany(QUERIES["wait_in_lane_4"], [(job_id,) for job_id in ids])
    cancel(connection, dict.fromkeys(ids, min(failed)), failed, now)
    follow_ups.run(connection, ids, now)


def _parents(connection: Executes, ids: Sequence[int]) -> Iterator[_Parent]:
    """The parents as they stand now: of one that was enqueued again, the job that has taken its place."""
    left = set(ids)
    seen = set[int]()
    while left:
        found = [_Parent(*row) for row in connection.execute(QUERIES["parents_states"], (as_json(left),))]
        if unknown := left - {each.id for each in found}:
            raise UnknownParentError(sorted(unknown))
        seen |= left
        yield from (each for each in found if each.retried_as is None)
        left = {each.retried_as for each in found if each.retried_as is not None} - seen


def cancel(connection: Executes, blamed: dict[int, int], states: dict[int, str], now: Instant) -> None:
    """Cancel these dependents, each with the parent that is to blame."""
    rows = list[tuple[int, str | bytes, int]]()
    for job_id, parent_id in blamed.items():
        how = "failed" if states[parent_id] == "failed" else "was cancelled"
        error = ErrorInfo(type="ParentFailedError", message=f"job {parent_id}, which it waited for, {how}")
        rows.append((now.wall_us, stored_json(encode_error(error)), job_id))
    connection.executemany(QUERIES["parent_failed"], rows)

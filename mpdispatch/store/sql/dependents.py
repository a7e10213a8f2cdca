"""Jobs that wait for other jobs, their parents. Inside a transaction that inserts jobs.

They are pending in lane 4, which no claim reads, and have a row that counts the parents still open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mpdispatch.clock import Instant
from mpdispatch.errors import UnknownParentError
from mpdispatch.model import ErrorInfo, NewJob, OnParentFailure, Parent
from mpdispatch.store.sql.candidates import as_json
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.rows import encode_error, state_named, stored_json


class _Parent(NamedTuple):
    id: int
    state: str
    retried_as: int | None
    created_at_us: int

    @property
    def has_failed(self) -> bool:
        return self.state in ("failed", "cancelled")

    def is_open(self, on_parent_failure: OnParentFailure) -> bool:
        """Whether a job with this policy waits for it."""
        return on_parent_failure == "wait" if self.has_failed else self.state != "completed"


def add(connection: Connection, ids: Sequence[int], job: NewJob, now: Instant) -> None:
    """Have these new jobs, alike but for their payloads, wait for the parents of `job`.

    If a parent has failed or was cancelled already, its policy applies at once. Raises UnknownParentError.
    """
    parents = _parents(connection, job, ids[0])
    failed = min((each for each in parents if each.has_failed), default=None)  # by id
    if failed is not None and job.on_parent_failure == "cancel":
        _insert_pairs(connection, ids, parents, job.on_parent_failure)
        _cancel_new(connection, ids, failed, now)
    else:
        _wait(connection, ids, job.queue, parents, job.on_parent_failure)


def add_again(connection: Connection, old_id: int, new_id: int) -> None:
    """Have a job that is enqueued again wait as the old one did, for its parents as they stand now.

    If a parent has failed, it waits until that one is retried: whoever retries a job that was cancelled for it wants that.
    Parents that were pruned do not count.
    """
    rows = connection.execute(QUERIES["waited_for"], (old_id,)).fetchall()
    if rows:
        _, stored, queue = rows[0]
        policy = _policy(stored)
        found = _read(connection, [row[0] for row in rows])
        parents = _latest(connection, {job_id: job_id for job_id in found}, found)
        _wait(connection, [new_id], queue, parents, "wait" if policy == "cancel" else policy)


def mend(connection: Connection, job_id: int, queue: str) -> int | None:
    """Have this job in lane 4 wait for its parents as they stand now, or be due if there are none left.

    Returns the failed parent for which it is to be cancelled instead.
    """
    row = connection.execute(QUERIES["policy_of"], (job_id,)).fetchone()
    rows = connection.execute(QUERIES["waited_for"], (job_id,)).fetchall()
    policy = _policy(row[0] if row is not None else rows[0][1] if rows else None)
    found = _read(connection, [row[0] for row in rows])
    parents = _latest(connection, {parent_id: parent_id for parent_id in found}, found)
    connection.execute(QUERIES["forget_dependents"], (as_json([job_id]),))
    failed = min((each.id for each in parents if each.has_failed), default=None)
    if failed is not None and policy == "cancel":
        return failed
    _wait(connection, [job_id], queue, parents, policy)
    return None


def _policy(stored: object) -> OnParentFailure:
    """The policy that stands in a row; of a word that is none, the default."""
    return stored if stored in ("run", "wait") else "cancel"


def _wait(
    connection: Connection, ids: Sequence[int], queue: str, parents: Sequence[_Parent], policy: OnParentFailure
) -> None:
    _insert_pairs(connection, ids, parents, policy)
    if count := sum(each.is_open(policy) for each in parents):
        connection.executemany(QUERIES["wait_in_lane_4"], [(job_id,) for job_id in ids])
        connection.executemany(QUERIES["insert_dependent"], [(job_id, queue, count, policy) for job_id in ids])


def _insert_pairs(
    connection: Connection, ids: Sequence[int], parents: Sequence[_Parent], policy: OnParentFailure
) -> None:
    pairs = [(job_id, parent.id, policy) for job_id in ids for parent in parents]
    connection.executemany(QUERIES["insert_parent"], pairs)


def _cancel_new(connection: Connection, ids: Sequence[int], failed: _Parent, now: Instant) -> None:
    from mpdispatch.store.sql import follow_ups  # which inserts jobs itself

    connection.executemany(QUERIES["wait_in_lane_4"], [(job_id,) for job_id in ids])
    cancel(connection, dict.fromkeys(ids, failed.id), {failed.id: failed.state}, now)
    follow_ups.run(connection, ids, now)


def _parents(connection: Connection, job: NewJob, before_id: int) -> list[_Parent]:
    """The parents as they stand now: of one that was enqueued again, the job that has taken its place.

    A parent is older than its dependents, so that no job waits for itself. Raises UnknownParentError, also if the job
    that has taken a place was pruned: nobody knows how it ended.
    """
    found = _read(connection, [each for each in job.after if each < before_id])
    _refuse_others(job, found)
    places = {job_id: job_id for job_id in job.after}
    parents = _latest(connection, places, found)
    if unknown := [each for each, place in places.items() if place not in found]:
        raise UnknownParentError(sorted(unknown))
    return parents


def _latest(connection: Connection, places: dict[int, int], found: dict[int, _Parent]) -> list[_Parent]:
    """The jobs that are in these places now, those that are still there; `found` has the first ones.

    Writes those to `places` and `found`.
    """
    while again := _replaced(places, found):
        places |= again
        found |= _read(connection, set(again.values()))
    return list({place: found[place] for place in places.values() if place in found}.values())


def _refuse_others(job: NewJob, found: Mapping[int, _Parent]) -> None:
    """Raise UnknownParentError: some of the parents found are not the jobs that were meant, but only have their ids."""
    there = ((found[job_id], us) for job_id, us in job.parents_created_us if job_id in found)
    if others := [each.id for each, us in there if each.created_at_us != us]:
        raise UnknownParentError(sorted(others), are_elsewhere=True)


def _replaced(places: Mapping[int, int], found: Mapping[int, _Parent]) -> dict[int, int]:
    """Those of these places that another job has taken, and the job."""
    seen = ((each, found[place]) for each, place in places.items() if place in found)
    return {each: at.retried_as for each, at in seen if at.retried_as is not None and at.retried_as > at.id}


def _read(connection: Connection, ids: Iterable[int]) -> dict[int, _Parent]:
    rows = connection.execute(QUERIES["parents_states"], (as_json(ids),))
    return {row[0]: _Parent(*row) for row in rows}


def cancel(connection: Connection, blamed: Mapping[int, int], states: Mapping[int, str], now: Instant) -> None:
    """Cancel these dependents, each with the parent that is to blame."""
    rows = list[tuple[int, str | bytes, int]]()
    for job_id, parent_id in blamed.items():
        how = "failed" if states[parent_id] == "failed" else "was cancelled"
        error = ErrorInfo(type="ParentFailedError", message=f"job {parent_id}, which it waited for, {how}")
        rows.append((now.wall_us, stored_json(encode_error(error)), job_id))
    connection.executemany(QUERIES["parent_failed"], rows)


# ---------------------------------------------------------------- reading


def parents(connection: Connection, job_id: int) -> list[Parent]:
    """The jobs that this one waits for, or waited for, by id."""
    rows = connection.execute(QUERIES["parents"], (job_id,)).fetchall()
    return [Parent(parent_id, None if state is None else state_named(state)) for parent_id, state in rows]


def awaited(connection: Connection, job_id: int) -> list[Parent]:
    """Those of them that it still waits for."""
    row = connection.execute(QUERIES["policy_of"], (job_id,)).fetchone()
    if row is None:
        return []
    is_done = {"completed"} if row[0] == "wait" else {"completed", "failed", "cancelled"}
    return [each for each in parents(connection, job_id) if each.state not in is_done]


def count_of(connection: Connection, job_id: int) -> tuple[int, int]:
    """Number of jobs that wait for this one, and of those that wait or have waited for it."""
    waiting, total = connection.execute(QUERIES["dependents_count"], (job_id,)).fetchone()
    return waiting, total

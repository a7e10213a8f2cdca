"""A request to cancel that lost the race with a completion is no request any more."""

from __future__ import annotations

from collections.abc import Callable

from mpdispatch.model import AlikeJobs, Job, JobState, NewJob
from mpdispatch.store.contract import Store
from tests.clock import FakeClock
from tests.kinds import sqlite_only

from .conftest import Desk, completed, retrying

Enqueue = Callable[..., Job]


def _requests(desk: Desk) -> int:
    connection = desk.supervisor_store._own.current().connection  # type: ignore[attr-defined]
    found: tuple[int] = connection.execute(
        "SELECT count(*) FROM mpdispatch_jobs WHERE cancel_requested_us IS NOT NULL"
    ).fetchone()
    return found[0]


def _look_after(desk: Desk) -> None:
    """All that the store does by itself: a few steps if it has nothing to do, one more per thousand late requests."""
    while desk.supervisor_store.upkeep.step(["default"]).has_more:
        continue


@sqlite_only
def test_it_is_forgotten_once_it_was_met_and_the_job_stays_completed(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock
) -> None:
    jobs = [enqueue() for _ in range(3)]
    first, second, third = desk.claim()
    for job in jobs:
        store.cancel(job.id)
    desk.commit(completed(first, clock.now()), completed(second, clock.now()))
    _look_after(desk)
    assert _requests(desk) == 3, "nobody has looked yet"
    assert desk.supervisor_store.cancel_requests(desk.owner) == [(third.id, 1)]
    _look_after(desk)
    assert _requests(desk) == 1
    assert desk.supervisor_store.cancel_requests(desk.owner) == [(third.id, 1)]
    assert [store.get(job.id).state for job in jobs[:2]] == [JobState.COMPLETED] * 2


def test_those_of_running_jobs_of_others_stay(
    store: Store, enqueue: Enqueue, new_desk: Callable[[], Desk], clock: FakeClock
) -> None:
    one, other = new_desk(), new_desk()
    ids = [enqueue().id for _ in range(2)]
    (mine,), (theirs,) = one.claim(1), other.claim(1)
    for job_id in ids:
        store.cancel(job_id)
    one.commit(completed(mine, clock.now()))
    assert one.supervisor_store.cancel_requests(one.owner) == []
    _look_after(one)
    assert other.supervisor_store.cancel_requests(other.owner) == [(theirs.id, 1)]
    assert list(other.commit(retrying(theirs, clock.now())).cancelled) == [(theirs.id, 1)]


@sqlite_only
def test_many_are_forgotten_a_thousand_at_a_time(store: Store, desk: Desk, clock: FakeClock) -> None:
    store.enqueue_many(AlikeJobs(NewJob(name="a", payload=b""), [b"{}"] * 2100))
    desk.commit(*[completed(job, clock.now()) for job in desk.claim(3000)])
    desk.supervisor_store._own.current().connection.execute(  # type: ignore[attr-defined]
        "UPDATE mpdispatch_jobs SET cancel_requested_us = 1"
    )
    _look_after(desk)
    desk.supervisor_store.cancel_requests(desk.owner)
    left = list[int]()
    while desk.supervisor_store.upkeep.step(["default"]).has_more:
        left.append(_requests(desk))
    assert left == [1100, 100]
    assert _requests(desk) == 0

"""Pruning: what ended long ago goes, with all that is kept of it; nothing else does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mpdispatch import sqlite3
from mpdispatch.errors import JobNotFoundError
from mpdispatch.model import AlikeJobs, Job, JobState, NewJob
from mpdispatch.store import SQLiteStore
from mpdispatch.store.contract import Store
from mpdispatch.store.filters import DeadLetterFilter
from tests.clock import FakeClock

from .conftest import Desk, completed, failed

HOUR_S = 3600


def _is_there(store: Store, job: Job) -> bool:
    try:
        store.get(job.id)
    except JobNotFoundError:
        return False
    return True


def test_only_jobs_that_ended_before_are_pruned(
    store: Store, desk: Desk, enqueue: Callable[..., Job], clock: FakeClock
) -> None:
    old, cancelled, waiting = enqueue(), enqueue(), enqueue()
    store.cancel(cancelled.id)
    (claimed,) = desk.commit(slots=1).claimed
    desk.commit(completed(claimed, clock.now()))
    clock.advance(HOUR_S)
    cut_us = clock.now().wall_us
    recent = enqueue()
    store.cancel(recent.id)
    assert store.prune(cut_us, 100) == 2
    assert store.prune(cut_us, 100) == 0
    assert [_is_there(store, job) for job in (old, cancelled, waiting, recent)] == [False, False, True, True]


def test_a_failed_job_stays_until_its_dead_letter_is_dealt_with(
    store: Store, desk: Desk, enqueue: Callable[..., Job], clock: FakeClock
) -> None:
    job = enqueue(max_retries=0)
    (claimed,) = desk.commit(slots=1).claimed
    desk.commit(failed(claimed, clock.now()))
    assert store.get(job.id).state is JobState.FAILED
    clock.advance(HOUR_S)
    assert store.prune(clock.now().wall_us, 100) == 0
    assert store.dead_letter_count() == 1
    store.purge_dead_letters(DeadLetterFilter())
    assert store.prune(clock.now().wall_us, 100) == 1


def test_a_supervisor_prunes_as_its_clients_do(
    store: Store, desk: Desk, enqueue: Callable[..., Job], clock: FakeClock
) -> None:
    jobs = [enqueue() for _ in range(5)]
    for job in jobs:
        store.cancel(job.id)
    clock.advance(HOUR_S)
    assert desk.supervisor_store.upkeep.prune(HOUR_S * 1_000_000, 3) == 0, "none is older than an hour"
    assert [desk.supervisor_store.upkeep.prune(0, 3) for _ in range(3)] == [3, 2, 0]


def test_nothing_is_kept_of_a_pruned_job(
    file_store: SQLiteStore, clock: FakeClock, path: object, new_desk: Callable[[], Desk]
) -> None:
    big = b'{"x":"' + b"y" * 5000 + b'"}'
    job = file_store.enqueue(NewJob(name="big", payload=big))
    supervisor_store = file_store.supervisor_store()
    connection = sqlite3.connect(str(path))
    file_store.cancel(job.id)
    clock.advance(HOUR_S)
    assert supervisor_store.upkeep.prune(0, 10) == 1
    for table in ("jobs", "payloads", "results", "attempts", "outputs", "dead_letters"):
        assert connection.execute(f"SELECT count(*) FROM mpdispatch_{table}").fetchone() == (0,), table
    connection.close()
    supervisor_store.close()


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_pruning_is_done_in_the_portions_asked_for(
    store: Store, enqueue: Callable[..., Job], clock: FakeClock, limit: int
) -> None:
    for _ in range(20):
        store.cancel(enqueue().id)
    clock.advance(HOUR_S)
    gone = [store.prune(clock.now().wall_us, limit)]
    while gone[-1]:
        gone.append(store.prune(clock.now().wall_us, limit))
    assert sum(gone) == 20
    assert max(gone) <= limit


@pytest.mark.parametrize("how", ["enqueue", "enqueue_many", "retry", "key"])
def test_an_id_is_never_used_twice_pruned_or_not(
    store: Store, enqueue: Callable[..., Job], clock: FakeClock, how: str
) -> None:
    older, middle, newest = (enqueue() for _ in range(3))
    # The newest goes; then an older one, which must not be remembered in its database.
    for job in (newest, older):
        store.cancel(job.id)
        clock.advance(HOUR_S)
        assert store.prune(clock.now().wall_us, 100) == 1
    new = NewJob(name="a", payload=b"{}")
    match how:
        case "enqueue":
            made = store.enqueue(new).id
        case "key":
            made = enqueue(idempotency_key="k").id
            assert enqueue(idempotency_key="k").id == made
        case "enqueue_many":
            made = store.enqueue_many(AlikeJobs(new, [b"{}"] * 3))[0]
        case _:
            store.cancel(middle.id)
            made = store.retry(middle.id).id
    assert made == newest.id + 1

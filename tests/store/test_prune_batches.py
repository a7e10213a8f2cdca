"""Pruning of what belongs to several jobs: parents that somebody waits for, and batches."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from mpdispatch import sqlite3
from mpdispatch.clock import SECOND_US
from mpdispatch.errors import BatchNotFoundError, JobNotFoundError, StoreBusy
from mpdispatch.model import AlikeJobs, Job, JobState, NewBatch, NewJob, Parent
from mpdispatch.store import SQLiteStore
from mpdispatch.store.contract import Store
from mpdispatch.store.filters import BatchFilter, DeadLetterFilter, PruneFilter
from mpdispatch.store.values import Dependents, Retention
from tests.clock import FakeClock

from .conftest import Desk, completed, failed

DAY_US = 24 * 3600 * SECOND_US
ALL = PruneFilter(keep=0)
JOB = NewJob(name="a", payload=b"{}", max_retries=0)
Enqueue = Callable[..., Job]


def is_there(store: Store, job_id: int) -> bool:
    try:
        store.get(job_id)
    except JobNotFoundError:
        return False
    return True


def those_there(store: Store, *ids: int) -> list[int]:
    return [each for each in ids if is_there(store, each)]


def batches(store: Store) -> list[int]:
    return [each.id for each in store.batches.page(BatchFilter(), limit=100, cursor=None).items]


def end_all(desk: Desk, clock: FakeClock) -> None:
    while claimed := desk.claim():
        desk.commit(*(completed(job, clock.now()) for job in claimed))


def prune_by_age(desk: Desk, ended_us: int | None = DAY_US, limit: int | None = None) -> int:
    retention = Retention(ended_us, ended_us, limit)
    while (step := desk.supervisor_store.upkeep.prune(retention)).has_more:
        continue
    return step.pruned


# ---------------------------------------------------------------- parents


@pytest.mark.parametrize("way", ["prune", "age", "limit"])
def test_a_parent_stays_until_its_dependents_have_ended(
    store: Store, desk: Desk, enqueue: Enqueue, clock: FakeClock, way: str
) -> None:
    def prune() -> int:
        clock.advance(2 * 24 * 3600)
        if way == "prune":
            return sum(store.prune(ALL).by_state.values())
        return prune_by_age(desk) if way == "age" else prune_by_age(desk, None, limit=1)

    first, other = enqueue().id, enqueue().id
    last = enqueue(after=(first,), delay_us=10 * DAY_US).id
    end_all(desk, clock)
    newest = enqueue().id
    end_all(desk, clock)
    assert store.get(last).state is JobState.SCHEDULED
    prune()
    assert those_there(store, first, other, last) == [first, last], "it may read the result of the first"
    assert store.parents(last) == [Parent(first, JobState.COMPLETED)]
    clock.advance(10 * 24 * 3600)
    end_all(desk, clock)
    prune()
    enqueue()
    end_all(desk, clock)
    prune()
    assert those_there(store, first, other, newest) == []


def test_a_dry_run_counts_no_parent_that_stays(
    store: Store, desk: Desk, enqueue: Enqueue, clock: FakeClock
) -> None:
    parent = enqueue().id
    enqueue(after=(parent,), delay_us=DAY_US)
    end_all(desk, clock)
    assert store.prune(ALL, dry_run=True).by_state == {}


def test_a_failed_parent_that_is_waited_for_stays_though_its_dead_letter_was_purged(
    store: Store, desk: Desk, enqueue: Enqueue, clock: FakeClock
) -> None:
    parent = enqueue(max_retries=0).id
    child = enqueue(after=(parent,), on_parent_failure="wait").id
    desk.commit(*(failed(job, clock.now()) for job in desk.claim()))
    store.purge_dead_letters(DeadLetterFilter())
    clock.advance(2 * 24 * 3600)
    assert store.prune(ALL).by_state == {}
    assert store.retry(parent).retried_from == parent
    end_all(desk, clock)
    assert store.get(child).state is JobState.COMPLETED


def test_nothing_is_left_of_a_dependent_that_is_pruned(
    store: Store, desk: Desk, enqueue: Enqueue, clock: FakeClock
) -> None:
    parent = enqueue().id
    children = [enqueue(after=(parent,)).id for _ in range(3)]
    end_all(desk, clock)
    assert store.dependents(parent) == Dependents(waiting=0, total=3)
    store.prune(PruneFilter(keep=1))
    assert those_there(store, parent, *children) == [children[-1]]
    assert store.parents(children[-1]) == [Parent(parent, None)]
    store.prune(ALL)
    assert [store.parents(each) for each in (parent, *children)] == [[]] * 4
    assert store.dependents(parent) == Dependents(waiting=0, total=0)


def test_a_job_that_got_a_dependent_since_it_was_found_is_not_deleted(
    file_store: SQLiteStore, clock: FakeClock
) -> None:
    desk = Desk(file_store, clock)
    parent = file_store.enqueue(JOB).id
    end_all(desk, clock)
    clock.advance(2 * 24 * 3600)
    other = sqlite3.connect(file_store.location, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy):  # it has read what may go, and cannot delete it
        prune_by_age(desk)
    other.execute("ROLLBACK")
    other.close()
    child = file_store.enqueue(msgspec.structs.replace(JOB, after=(parent,)))
    assert prune_by_age(desk) == 0
    assert file_store.parents(child.id) == [Parent(parent, JobState.COMPLETED)]
    desk.close()


# ---------------------------------------------------------------- batches


def test_a_batch_goes_with_its_last_member(store: Store, desk: Desk, clock: FakeClock) -> None:
    callbacks = {"on_end": NewJob(name="a", payload=b"")}
    old = store.enqueue_many([JOB, JOB], batch=NewBatch(name="old", callbacks=callbacks, key="k")).batch_id  # type: ignore[arg-type]
    assert old is not None
    end_all(desk, clock)
    clock.advance(12 * 3600)
    young = store.enqueue_many([JOB]).batch_id
    waiting = store.enqueue_many([JOB], closes=False).batch_id
    end_all(desk, clock)
    clock.advance(18 * 3600)
    assert prune_by_age(desk) == 3
    assert batches(store) == [waiting, young]
    with pytest.raises(BatchNotFoundError):
        store.batches.get(old)
    assert store.batches.with_key("k") is None
    assert store.batches.open(NewBatch(name="new")).id == (waiting or 0) + 1, "an id is never used twice"
    assert store.batches.open(NewBatch(name="new", key="k")).callbacks == {}


def test_a_batch_stays_with_any_member_and_while_it_has_not_ended(
    store: Store, desk: Desk, enqueue: Enqueue, clock: FakeClock
) -> None:
    held, broken = store.enqueue_many([JOB, JOB]), store.enqueue_many([JOB])
    enqueue(after=(held.ids[0],), delay_us=9 * DAY_US)
    opened = store.batches.open(NewBatch(name="open")).id
    for job in desk.claim():
        desk.commit((failed if job.id in broken.ids else completed)(job, clock.now()))
    clock.advance(2 * 24 * 3600)
    prune_by_age(desk)
    assert those_there(store, *held.ids, *broken.ids) == [held.ids[0], *broken.ids]
    assert batches(store) == [opened, broken.batch_id, held.batch_id]
    assert store.batches.get(held.batch_id or 0).total == 2, "its numbers are kept, though a member is pruned"


def test_an_empty_batch_goes_once_it_has_ended_that_long_ago(store: Store, clock: FakeClock) -> None:
    empty = store.batches.open(NewBatch(name="empty")).id
    store.batches.close(empty)
    store.prune(PruneFilter(ended_before_us=clock.now().wall_us))
    assert batches(store) == [empty]
    clock.advance(1)
    store.prune(PruneFilter(ended_before_us=clock.now().wall_us), dry_run=True)
    assert batches(store) == [empty]
    store.prune(PruneFilter(ended_before_us=clock.now().wall_us))
    assert batches(store) == []


def test_very_many_batches_are_pruned(store: Store, desk: Desk, clock: FakeClock) -> None:
    for _ in range(1200):
        store.batches.close(store.batches.open(NewBatch(name="b")).id)
    kept = store.enqueue_many(AlikeJobs(JOB, [b"{}"] * 3)).batch_id
    clock.advance(2 * 24 * 3600)
    assert prune_by_age(desk) == 0
    assert batches(store) == [kept]

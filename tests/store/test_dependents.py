"""Jobs that wait for others: what else may happen to them while they wait, and what others see of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mpdispatch.clock import SECOND_US
from mpdispatch.model import Job, JobState, NewJob, Parent
from mpdispatch.store import SQLiteStore
from mpdispatch.store.contract import Store
from mpdispatch.store.values import Dependents
from tests.clock import FakeClock

from .conftest import Desk, completed, failed, retrying
from .requests import request

Enqueue = Callable[..., Job]


def upkeep(desk: Desk) -> None:
    while desk.supervisor_store.upkeep.step(("default",)).has_more:
        continue


def end(desk: Desk, *queues: str, failing: frozenset[int] = frozenset()) -> list[int]:
    """Claim what is due and end it; gives the ids in the order of the claim."""
    claimed = desk.claim(claim=request(*queues))
    now = desk.clock.now()
    desk.commit(*((failed if job.id in failing else completed)(job, now) for job in claimed))
    return [job.id for job in claimed]


def test_a_dependent_that_expires_is_cancelled_and_its_own_dependents_follow(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock
) -> None:
    parent = enqueue(queue="later")
    middle = enqueue(after=(parent.id,), expires_us=5 * SECOND_US)
    cancelled, runs = enqueue(after=(middle.id,)), enqueue(after=(middle.id,), on_parent_failure="run")
    clock.advance(6)
    upkeep(desk)
    job = store.get(middle.id)
    assert (job.state, job.last_error.type if job.last_error else None) == (JobState.CANCELLED, "JobExpired")
    assert [attempt.cause for attempt in store.attempts(middle.id)] == ["expired"]
    assert store.get(cancelled.id).state is JobState.CANCELLED
    assert end(desk) == [runs.id]
    assert end(desk, "later") == [parent.id]
    assert store.counts()[JobState.PENDING] == 0


def test_a_dependent_is_cancelled_while_it_waits_and_its_parents_go_on(
    store: Store, enqueue: Enqueue, desk: Desk
) -> None:
    first, second = enqueue(), enqueue()
    job, other = (enqueue(after=(first.id, second.id)) for _ in range(2))
    assert store.cancel(job.id).state is JobState.CANCELLED
    assert store.awaited(job.id) == []
    assert store.parents(job.id) == [Parent(first.id, JobState.PENDING), Parent(second.id, JobState.PENDING)]
    assert store.dependents(first.id) == Dependents(waiting=1, total=2)
    assert (end(desk), end(desk)) == ([first.id, second.id], [other.id])


def test_only_the_last_end_of_a_parent_counts(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock
) -> None:
    """A parent that is retried after an error has not ended."""
    parent = enqueue()
    child = enqueue(after=(parent.id,))
    (claimed,) = desk.claim()
    desk.commit(retrying(claimed, clock.now(), in_s=5))
    assert store.awaited(child.id) == [Parent(parent.id, JobState.RETRYING)]
    clock.advance(6)
    assert (end(desk), end(desk)) == ([parent.id], [child.id])


def test_a_released_job_waits_for_its_time_and_its_queue(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock
) -> None:
    parent = enqueue()
    later, paused = enqueue(after=(parent.id,), delay_us=60 * SECOND_US), enqueue(after=(parent.id,), queue="p")
    store.set_paused("p", True)
    assert [store.get(each.id).blocked_reason for each in (later, paused)] == ["waiting for 1 job"] * 2
    end(desk)
    assert store.get(later.id).state is JobState.SCHEDULED
    assert store.get(paused.id).blocked_reason == "queue 'p' is paused"
    assert end(desk, "default", "p") == []
    store.set_paused("p", False)
    clock.advance(61)
    assert sorted(end(desk, "default", "p")) == [later.id, paused.id]


def test_jobs_that_end_in_one_commit_release_a_job_once(store: Store, enqueue: Enqueue, desk: Desk) -> None:
    parents = [enqueue().id for _ in range(20)]
    kept = enqueue(after=tuple(parents))
    gone = enqueue(after=tuple(parents[::2]))
    last = enqueue(after=(kept.id, gone.id), on_parent_failure="run")
    assert end(desk, failing=frozenset({parents[4], parents[2]})) == parents
    job = store.get(gone.id)
    assert job.last_error is not None
    assert job.last_error.message == f"job {parents[2]}, which it waited for, failed"
    assert {store.get(each.id).state for each in (kept, gone)} == {JobState.CANCELLED}
    assert end(desk) == [last.id]


def test_a_released_job_comes_before_younger_ones(store: Store, enqueue: Enqueue, desk: Desk) -> None:
    parent = enqueue(priority=9)
    old = enqueue(after=(parent.id,))
    young = enqueue()
    urgent = enqueue(after=(parent.id,), priority=1)
    (claimed,) = desk.claim(1)
    assert claimed.id == parent.id
    desk.commit(completed(claimed, desk.clock.now()))
    assert end(desk) == [urgent.id, old.id, young.id]


def test_a_copy_of_a_store_has_the_jobs_that_wait(
    file_store: SQLiteStore, path: Path, desk: Desk, clock: FakeClock
) -> None:
    new = NewJob(name="a", payload=b"{}")
    parent = file_store.enqueue(new).id
    child = file_store.enqueue(NewJob(name="a", payload=b"{}", after=(parent,), on_parent_failure="wait")).id
    copy_path = path.with_name("copy.db")
    file_store.backup(copy_path)
    copy = SQLiteStore(copy_path, clock=clock)
    there = Desk(copy, clock)
    assert copy.awaited(child) == [Parent(parent, JobState.PENDING)]
    assert (end(there), end(there)) == ([parent], [child])
    there.close()
    copy.close()
    assert file_store.get(child).blocked_reason == "waiting for 1 job"


@pytest.mark.parametrize("policy", ["cancel", "run", "wait"])
def test_a_take_over_goes_on_with_the_dependents(
    store: Store, enqueue: Enqueue, clock: FakeClock, policy: str
) -> None:
    dead, heir = Desk(store, clock), Desk(store, clock)
    parent = enqueue(max_retries=0)
    child = enqueue(after=(parent.id,), on_parent_failure=policy)
    (claimed,) = dead.claim()
    clock.advance(100)
    (peer,) = [each for each in heir.supervisor_store.peers(heir.owner).registered if each.id == dead.owner]
    assert heir.supervisor_store.take_over(peer, [failed(claimed, clock.now())])
    states = {"cancel": JobState.CANCELLED, "run": JobState.PENDING, "wait": JobState.PENDING}
    assert store.get(child.id).state is states[policy]
    assert end(heir) == ([child.id] if policy == "run" else [])
    for desk in (dead, heir):
        desk.close()

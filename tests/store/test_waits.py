"""A clock set back since a job was put off costs its wait at most its own length again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpdispatch.model import AlikeJobs, Cause, ClaimedJob, Job, JobState, NewJob, Transition
from mpdispatch.store import SQLiteStore
from mpdispatch.store.contract import Store
from mpdispatch.store.filters import JobFilter
from mpdispatch.store.sql import waits
from mpdispatch.store.values import UpkeepStep
from tests.clock import FakeClock
from tests.kinds import sqlite_only

from .conftest import Desk, ended, retrying
from .odd import ODD, tamper
from .requests import request

Enqueue = Callable[..., Job]
DAY_S = 86_400.0


def _wait_s(store: Store, job: Job | ClaimedJob, clock: FakeClock) -> float:
    return store.get(job.id).run_at.timestamp() - clock.now().wall_us / 1e6


def _rebase(desk: Desk, queues: tuple[str, ...] = ("other", "default")) -> list[int]:
    """Have the store look after itself; gives how many jobs each step had wait anew, if any."""
    sizes, has_more = list[int](), True
    while has_more:
        rebased, _, has_more, _ = desk.supervisor_store.upkeep.step(queues)
        sizes.append(rebased)
    return [each for each in sizes if each]


def _put_off(desk: Desk, how: str, in_s: float) -> Transition:
    (job,) = desk.claim()
    now = desk.clock.now()
    if how == "retry":
        return retrying(job, now, in_s=in_s)
    run_at_us = now.wall_us + round(in_s * 1e6)
    return ended(job, JobState.SCHEDULED, Cause.SNOOZE, now, run_at_us=run_at_us, attempt=job.attempt - 1)


@pytest.mark.parametrize("how", ["retry", "snooze"])
def test_a_wait_begins_anew_after_a_step_back(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock, how: str
) -> None:
    job = enqueue()
    desk.commit(_put_off(desk, how, 60))
    clock.advance(20)
    clock.jump_wall(-DAY_S)
    assert _rebase(desk) == [1]
    assert _wait_s(store, job, clock) == 60
    clock.advance(5)
    assert _rebase(desk) == [], "once"
    assert _wait_s(store, job, clock) == 55
    clock.advance(55)
    assert [claimed.id for claimed in desk.claim()] == [job.id]


def test_what_a_user_has_named_a_moment_for_stays_at_that_moment(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock
) -> None:
    job = enqueue(run_at_us=clock.now().wall_us + 60_000_000)
    clock.jump_wall(-DAY_S)
    assert _rebase(desk) == []
    assert _wait_s(store, job, clock) == DAY_S + 60


@pytest.mark.parametrize("step_s", [-30.0, 0.0, 3600.0])
def test_a_step_that_costs_no_more_than_the_wait_itself_changes_nothing(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock, step_s: float
) -> None:
    enqueue()
    desk.commit(_put_off(desk, "retry", 40))
    clock.jump_wall(step_s)
    assert _rebase(desk) == []


def test_another_start_ended_by_the_new_clock_is_measured_by_that(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock
) -> None:
    job = enqueue()
    desk.commit(_put_off(desk, "retry", 1))
    clock.jump_wall(-DAY_S)
    _rebase(desk)
    clock.advance(1)
    desk.commit(_put_off(desk, "retry", 60))
    assert _rebase(desk) == []
    assert _wait_s(store, job, clock) == 60


def test_many_are_looked_at_a_thousand_at_a_time_and_ties_are_not_overlooked(
    path: Path, clock: FakeClock
) -> None:
    store = SQLiteStore(path, durability="process", clock=clock)
    store.enqueue_many(AlikeJobs(NewJob(name="a", payload=b""), [b"{}"] * 2500))
    desk = Desk(store, clock)
    desk.commit(*[retrying(job, clock.now(), in_s=60) for job in desk.claim(2500)])
    clock.jump_wall(-DAY_S)
    assert _rebase(desk) == [1000, 1000, 500]
    clock.advance(60)
    assert len(desk.claim(5000)) + len(desk.claim(5000)) + len(desk.claim(5000)) == 2500
    desk.close()
    store.close()


@sqlite_only
@pytest.mark.parametrize("most", [1, 2, 3])
def test_looks_of_any_size_find_each_wait_once(
    enqueue: Enqueue, desk: Desk, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """In two queues and both states, some due at the same moment."""
    queues = ("other", "default")
    for number, wait_s in enumerate([60, 60, 60, 5, 60, 90, 90, 7]):
        enqueue(queue=queues[number % 2])
        (job,) = desk.claim(1, request(*queues))
        run_at_us = desk.clock.now().wall_us + wait_s * 1_000_000
        state, cause = [(JobState.RETRYING, Cause.ERROR), (JobState.SCHEDULED, Cause.SNOOZE)][number // 2 % 2]
        desk.commit(ended(job, state, cause, desk.clock.now(), run_at_us=run_at_us, attempt=0))
    monkeypatch.setattr("mpdispatch.store.sql.waits.LOOK_AT_MOST", most)
    desk.clock.jump_wall(-DAY_S)
    sizes = _rebase(desk, queues)
    assert max(sizes) <= most
    assert sum(sizes) == 8
    jobs = desk.store.list_jobs(JobFilter(), limit=9, cursor=None).items
    left_s = sorted(_wait_s(desk.store, job, desk.clock) for job in jobs)
    assert left_s == [5, 7, 60, 60, 60, 60, 90, 90]


def test_one_that_was_moved_since_waits_for_nothing_anew(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock
) -> None:
    job = enqueue()
    desk.commit(_put_off(desk, "retry", 60))
    clock.jump_wall(-DAY_S)
    store.retry(job.id)
    assert _rebase(desk) == []
    assert store.state_of(job.id) is JobState.PENDING


def test_one_that_is_moved_while_it_is_looked_at_is_left_alone(
    file_store: SQLiteStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, job = Desk(file_store, clock), file_store.enqueue(NewJob(name="render", payload=b"{}"))
    desk.commit(_put_off(desk, "retry", 60))
    clock.jump_wall(-DAY_S)
    real = waits.outdated

    def meanwhile_retried(*args: Any) -> Any:
        found = real(*args)
        file_store.retry(job.id)
        return found

    monkeypatch.setattr(waits, "outdated", meanwhile_retried)
    assert desk.supervisor_store.upkeep.step(["default"]).rebased == 0
    assert _wait_s(file_store, job, clock) == 0
    desk.close()


@pytest.mark.parametrize(("column", "table"), [("run_at_us", "jobs"), ("finished_at_us", "attempt_rows")])
@pytest.mark.parametrize("odd", ODD)
def test_odd_times_of_one_wait_keep_no_other_from_beginning_anew(
    file_store: SQLiteStore, path: Path, clock: FakeClock, column: str, table: str, odd: str
) -> None:
    desk = Desk(file_store, clock)
    ids = [file_store.enqueue(NewJob(name="render", payload=b"{}")).id for _ in range(2)]
    jobs = desk.claim()
    desk.commit(*[retrying(job, clock.now(), in_s=60) for job in jobs])
    clock.advance(20)
    clock.jump_wall(-DAY_S)
    where = "id" if table == "jobs" else "job_id"
    tamper(path, f"UPDATE mpdispatch_{table} SET {column} = {odd} WHERE {where} = {ids[0]}")
    _rebase(desk)
    assert _wait_s(file_store, jobs[1], clock) == 60
    desk.close()


@pytest.mark.parametrize(("wait_s", "expected"), [(1.0, []), (1.000_001, [1])])
def test_what_is_due_within_a_second_is_left_alone(
    enqueue: Enqueue, desk: Desk, wait_s: float, expected: list[int]
) -> None:
    """It was put off for no time at all, so any step back makes it late."""
    enqueue()
    desk.commit(_put_off(desk, "retry", 0))
    desk.clock.jump_wall(-wait_s)
    assert _rebase(desk) == expected


def test_a_store_sees_by_itself_that_the_clock_was_set_back(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock
) -> None:
    job = enqueue()
    desk.commit(_put_off(desk, "retry", 60))
    assert _rebase(desk) == []
    clock.advance(20)
    assert desk.supervisor_store.upkeep.step(["default"]) == UpkeepStep(0, 0, has_more=False)
    clock.jump_wall(-DAY_S)
    assert desk.supervisor_store.upkeep.step(["default"]) == UpkeepStep(1, 0, has_more=False)
    assert _wait_s(store, job, clock) == 60

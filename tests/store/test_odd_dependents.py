"""Whatever another program writes about a job that waits for others: its parents' outcomes are recorded all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mpdispatch.model import JobState, NewJob
from mpdispatch.store import SQLiteStore
from tests.clock import FakeClock

from .conftest import Desk, completed, failed
from .odd import ODD, columns_of, look, tamper


@pytest.fixture
def desk(file_store: SQLiteStore, clock: FakeClock) -> Iterator[Desk]:
    made = Desk(file_store, clock)
    yield made
    made.close()


def enqueue(store: SQLiteStore, **options: object) -> int:
    return store.enqueue(NewJob(name="render", payload=b"{}", max_retries=0, **options)).id  # type: ignore[arg-type]


def work_off(desk: Desk, *failing: int) -> None:
    """Claim and end jobs until there is nothing more."""
    done: list = []
    for _ in range(30):
        result = desk.commit(*done, slots=10)
        now = desk.clock.now()
        done = [(failed if job.id in failing else completed)(job, now) for job in result.claimed]
        if not done and not result.has_more:
            return
    raise AssertionError("it never comes to an end")


OF_A_JOB = [("jobs", each) for each in columns_of("jobs") if each != "id"]
OF_OTHERS = [(table, each) for table in ("dependents", "parents") for each in columns_of(table)]


@pytest.mark.parametrize(("table", "column"), [*OF_A_JOB, *OF_OTHERS])
@pytest.mark.parametrize("does_fail", [False, True])
def test_an_odd_value_costs_one_dependent_and_no_other(
    file_store: SQLiteStore, path: Path, desk: Desk, table: str, column: str, does_fail: bool
) -> None:
    for odd in ODD:
        parent = enqueue(file_store)
        good = [enqueue(file_store, after=(parent,))]
        bad = enqueue(file_store, after=(parent,))
        good.append(enqueue(file_store, after=(parent,)))
        key = "id" if table == "jobs" else "job_id"
        if not tamper(path, f"UPDATE mpdispatch_{table} SET {column} = {odd} WHERE {key} = {bad}"):
            work_off(desk)
            continue
        look(file_store, desk.clock.now(), parent, *good, bad)
        work_off(desk, *([parent] if does_fail else []))
        assert file_store.state_of(parent) is (JobState.FAILED if does_fail else JobState.COMPLETED), odd
        wanted = JobState.CANCELLED if does_fail else JobState.COMPLETED
        assert [file_store.state_of(each) for each in good] == [wanted] * 2, odd
        if not look(file_store, desk.clock.now(), bad)[bad]["completed_at"]:
            file_store.cancel(bad)
        assert look(file_store, desk.clock.now(), bad)[bad]["completed_at"]
        work_off(desk)


@pytest.mark.parametrize("column", [each for each in columns_of("jobs") if each not in ("id", "batch_id")])
def test_an_odd_member_does_not_keep_a_batch_from_being_cancelled(
    file_store: SQLiteStore, path: Path, desk: Desk, column: str
) -> None:
    for odd in ODD:
        made = file_store.enqueue_many([NewJob(name="render", payload=b"{}")] * 3)
        assert made.batch_id is not None
        first, bad, last = made.ids
        if not tamper(path, f"UPDATE mpdispatch_jobs SET {column} = {odd} WHERE id = {bad}"):
            work_off(desk)
            continue
        file_store.batches.cancel(made.batch_id)
        assert [file_store.state_of(each) for each in (first, last)] == [JobState.CANCELLED] * 2, odd
        work_off(desk)
        if not look(file_store, desk.clock.now(), bad)[bad]["completed_at"]:
            file_store.cancel(bad)
        assert file_store.batches.get(made.batch_id).done == 3

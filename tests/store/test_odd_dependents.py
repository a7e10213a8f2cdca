"""Whatever another program writes about a job that waits for others: its parents' outcomes are recorded all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mpdispatch.engine.explain import explain
from mpdispatch.model import AlikeJobs, JobState, NewJob
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


# ---------------------------------------------------------------- nothing would release them


def upkeep(store: SQLiteStore, clock: FakeClock) -> int:
    """What a supervisor that is started does about such rows; gives how many it has mended."""
    desk, mended = Desk(store, clock), 0
    for _ in range(100):
        step = desk.supervisor_store.upkeep.step(("default",))
        mended += step.repaired
        if not step.has_more:
            desk.close()
            return mended
    raise AssertionError("it never comes to an end")


def lost_in(store: SQLiteStore) -> list[str]:
    return [each.message for each in store.examine() if "release" in each.message]


@pytest.mark.parametrize("policy", ["cancel", "run", "wait"])
@pytest.mark.parametrize("ended", ["none", "one", "all", "one failed"])
def test_a_dependent_without_its_row_is_mended(
    file_store: SQLiteStore, path: Path, desk: Desk, clock: FakeClock, policy: str, ended: str
) -> None:
    first, second = enqueue(file_store, priority=5), enqueue(file_store)
    job_id = enqueue(file_store, after=(first, second), on_parent_failure=policy)
    last = enqueue(file_store, after=(job_id,), on_parent_failure="run")
    assert upkeep(file_store, clock) == 0
    assert lost_in(file_store) == []
    tamper(path, f"DELETE FROM mpdispatch_dependents WHERE job_id = {job_id}")
    for job in desk.claim({"none": 0, "one": 1, "one failed": 1, "all": 2}[ended]):
        desk.commit((failed if ended == "one failed" else completed)(job, clock.now()))
    assert len(lost_in(file_store)) == 1
    assert file_store.faults(job_id) == ["it waits for other jobs, but none is left whose end would release it"]
    _, reasons = explain(file_store, job_id, now=clock.now())
    assert (reasons[0].code, "mends it" in str(reasons[0])) == ("unreadable", True)
    assert upkeep(file_store, clock) == 1
    assert lost_in(file_store) == file_store.faults(job_id) == []
    job = file_store.get(job_id)
    if ended == "one failed" and policy == "cancel":
        assert job.state is JobState.CANCELLED
        assert job.last_error is not None
        assert job.last_error.message == "job 1, which it waited for, failed"
    else:
        count = {"none": 2, "one": 1, "all": 0, "one failed": 2 if policy == "wait" else 1}[ended]
        assert job.blocked_reason == (f"waiting for {count} job{'s' * (count > 1)}" if count else None)
        work_off(desk)
        if ended == "one failed" and policy == "wait":
            file_store.retry(first)
        work_off(desk)
        assert file_store.state_of(job_id) is JobState.COMPLETED
    work_off(desk)
    assert file_store.state_of(last) is JobState.COMPLETED


def test_a_dependent_whose_parents_are_gone_runs(
    file_store: SQLiteStore, path: Path, desk: Desk, clock: FakeClock
) -> None:
    first, second = enqueue(file_store, delay_us=10**12), enqueue(file_store)
    job_id = enqueue(file_store, after=(first, second))
    tamper(path, f"DELETE FROM mpdispatch_jobs WHERE id = {first}")
    assert upkeep(file_store, clock) == 0, "the other one will end"
    work_off(desk)
    assert file_store.get(job_id).blocked_reason == "waiting for 1 job"
    assert file_store.faults(job_id)
    assert upkeep(file_store, clock) == 1
    work_off(desk)
    assert file_store.state_of(job_id) is JobState.COMPLETED


@pytest.mark.parametrize("state", ["due", "scheduled", "ended", "no job"])
def test_a_row_of_a_job_that_does_not_wait_is_deleted(
    file_store: SQLiteStore, path: Path, desk: Desk, clock: FakeClock, state: str
) -> None:
    parent = enqueue(file_store, delay_us=10**12)
    job_id = enqueue(file_store, delay_us=10**12 if state == "scheduled" else 0)
    if state == "ended":
        work_off(desk)
    if state == "no job":
        job_id = 4711
    tamper(
        path,
        f"INSERT INTO mpdispatch_parents VALUES ({job_id}, {parent}, 'cancel')",
        f"INSERT INTO mpdispatch_dependents VALUES ({job_id}, 'default', 1, 'cancel')",
    )
    assert len(lost_in(file_store)) == 1
    assert upkeep(file_store, clock) == 1
    assert lost_in(file_store) == []
    assert file_store.dependents(parent).waiting == 0


def test_very_many_are_mended_in_steps(
    file_store: SQLiteStore, path: Path, desk: Desk, clock: FakeClock
) -> None:
    parent = enqueue(file_store)
    more = AlikeJobs(NewJob(name="render", payload=b"{}", after=(parent,)), [b"{}"] * 3000)
    file_store.enqueue_many(more)
    tamper(
        path,
        "DELETE FROM mpdispatch_dependents WHERE job_id % 2",
        "DELETE FROM mpdispatch_parents WHERE job_id % 2 = 0",
    )
    assert upkeep(file_store, clock) == 3000
    assert lost_in(file_store) == []
    assert file_store.dependents(parent).waiting == 1500
    assert sum(file_store.parked().values()) == 1500

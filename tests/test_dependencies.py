"""The options `after` and `on_parent_failure`: what they may be, what is refused, and what a job with them waits for."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mpdispatch import Engine, InvalidStateError, Job, JobState, UnknownParentError, UsageError


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with _opened(tmp_path / "jobs.db") as engine:
        yield engine


class _opened:
    def __init__(self, location: Path | str) -> None:
        self.engine = Engine.open(location)
        self.engine.job(render)

    def __enter__(self) -> Engine:
        self.engine.store.migrate()
        return self.engine

    def __exit__(self, *_: object) -> None:
        self.engine.store.close_all()


def render(path: str = "a") -> None: ...


def count(engine: Engine) -> int:
    return sum(engine.counts().values())


def parents_of(engine: Engine, job: Job) -> list[int]:
    return [each.id for each in engine.store.parents(job.id)]


# ---------------------------------------------------------------- what they may be


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (lambda jobs: jobs[0], [1]),
        (lambda jobs: jobs[1].id, [2]),
        (lambda jobs: [jobs[2], 1], [1, 3]),
        (lambda jobs: {2, 3}, [2, 3]),
        (lambda jobs: (each.id for each in jobs), [1, 2, 3]),
        (lambda jobs: range(1, 3), [1, 2]),
        (lambda jobs: [jobs[0], 1, [1, 2]], [1, 2]),
        (lambda jobs: [], []),
        (lambda jobs: None, []),
    ],
)
def test_parents_are_jobs_ids_and_lists_of_them(
    engine: Engine, given: Callable[[list[Job]], Any], expected: list[int]
) -> None:
    jobs = [engine.enqueue("render") for _ in range(3)]
    job = engine.options(after=given(jobs), on_parent_failure="run").enqueue("render")
    assert parents_of(engine, job) == expected
    words = f"waiting for {len(expected)} job{'s' if len(expected) > 1 else ''}" if expected else None
    assert (job.state, job.blocked_reason) == (JobState.PENDING, words)
    assert engine.get_job(job.id) == job


def test_a_batch_stands_for_its_jobs(engine: Engine) -> None:
    first, second = (engine.enqueue_many("render", [{}] * size) for size in (3, 2))
    assert parents_of(engine, engine.options(after=first).enqueue("render")) == [*first]
    assert parents_of(engine, engine.options(after=[second, first]).enqueue("render")) == [*first, *second]


def test_each_job_of_many_waits_for_all(engine: Engine) -> None:
    parents = [engine.enqueue("render") for _ in range(3)]
    made = engine.options(after=parents, on_parent_failure="wait").enqueue_many("render", [{}] * 20_000)
    jobs = [engine.get_job(job_id) for job_id in (*made,)[:: len(made) - 1]]
    assert [parents_of(engine, each) for each in jobs] == [[1, 2, 3]] * 2
    assert {each.blocked_reason for each in jobs} == {"waiting for 3 jobs"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"after": True}, "after: must be a Job.*not True"),
        ({"after": "12"}, "after: .*not '12'"),
        ({"after": 0}, "after: .*whole number from 1.*not 0"),
        ({"after": [1, -5]}, "after: .*not -5"),
        ({"after": 1 << 63}, "after: .*not 9223372036854775808"),
        ({"after": [1, 2.0]}, r"after: .*not 2\.0"),
        ({"after": {1: 2}}, "after: .*not {1: 2}"),
        ({"after": [[[1]]]}, r"after: .*not \[1\]"),
        ({"after": range(1, 200_000)}, "after: must be at most 100,000 jobs"),
        ({"after": 1, "on_parent_failure": "stop"}, "on_parent_failure: must be one of cancel, run, wait, not 'stop'"),
        ({"after": 1, "on_parent_failure": True}, "on_parent_failure: .*not True"),
        ({"on_parent_failure": "run"}, "on_parent_failure: only together with after"),
        ({"aftr": 1}, "did you mean after"),
        ({"after": "x", "priority": "y"}, "after.*priority"),
    ],
)  # fmt: skip
def test_a_bad_option_is_refused_by_name(engine: Engine, options: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        engine.options(**options)


def test_many_jobs_with_very_many_parents_are_refused(engine: Engine) -> None:
    parents = engine.enqueue_many("render", [{}] * 101)
    with pytest.raises(UsageError, match="after: must be at most 100 jobs if many wait for them, not 101"):
        engine.options(after=parents).enqueue_many("render", [{}])
    assert count(engine) == 101


def test_a_batch_of_another_store_is_refused(engine: Engine, tmp_path: Path) -> None:
    batch = engine.enqueue_many("render", [{}] * 3)
    for location in (tmp_path / "other.db", ":memory:"):
        with _opened(location) as other:
            other.enqueue_many("render", [{}] * 3)
            for after in (batch, [1, batch]):
                with pytest.raises(UsageError, match=r"after: batch 1 is of another store .*jobs\.db"):
                    other.options(after=after).enqueue("render")
                with pytest.raises(UsageError, match="after: batch 1 is of another store"):
                    other.options(after=after).enqueue_many("render", [{}])
            assert count(other) == 3
    with _opened(tmp_path / "jobs.db") as same:
        assert parents_of(same, same.options(after=batch).enqueue("render")) == [1, 2, 3]


def test_a_batch_of_the_store_stands_for_its_members_now(engine: Engine) -> None:
    with engine.batch("some", open=True) as batch:
        first = engine.enqueue("render")
    engine.cancel(first.id)
    again = engine.retry(first.id)
    job = engine.options(after=engine.batches.get(batch.id)).enqueue("render")
    batch.add("render")
    assert parents_of(engine, job) == [again.id]


def test_a_callback_of_a_batch_takes_no_parents(engine: Engine) -> None:
    job = engine.job(name="report")(lambda batch: None)
    with (
        pytest.raises(UsageError, match="on_end: a callback takes no option after"),
        engine.batch("some", on_end=job.options(after=1)),
    ):
        raise AssertionError("it is refused before")


# ---------------------------------------------------------------- unknown parents


def test_unknown_parents_are_refused_by_id(engine: Engine) -> None:
    job = engine.enqueue("render")
    with pytest.raises(UnknownParentError, match="after: there are no jobs 7, 8 in this store") as caught:
        engine.options(after=[8, job, 7]).enqueue("render")
    assert caught.value.ids == (7, 8)
    with pytest.raises(UnknownParentError, match="there is no job 9"):
        engine.options(after=9).enqueue_many("render", [{}, {}])
    assert count(engine) == 1


def test_parents_of_another_store_are_refused(engine: Engine, tmp_path: Path) -> None:
    engine.enqueue("render")
    for location in (tmp_path / "other.db", ":memory:"):
        with _opened(location) as other:
            theirs = other.enqueue("render")
            with pytest.raises(UnknownParentError, match="after: job 1 is of another store"):
                engine.options(after=[theirs]).enqueue("render")
            with pytest.raises(UnknownParentError, match="job 1 is of another store"):
                other.options(after=engine.get_job(1)).enqueue("render")
            assert count(engine) == count(other) == 1


def test_a_parent_whose_retry_was_pruned_is_unknown(engine: Engine) -> None:
    old = engine.enqueue("render")
    engine.cancel(old.id)
    new = engine.retry(old.id)
    assert parents_of(engine, engine.options(after=old).enqueue("render")) == [new.id]
    engine.cancel(new.id)
    connection = sqlite3.connect(engine.store.location)
    connection.execute("DELETE FROM mpdispatch_jobs WHERE id = ?", (new.id,))
    connection.commit()
    connection.close()
    with pytest.raises(UnknownParentError, match="there is no job 1 in"):
        engine.options(after=old).enqueue("render")


# ---------------------------------------------------------------- no circles


def test_a_job_cannot_wait_for_itself(engine: Engine) -> None:
    """Parents are in the store before their dependents, under ids that no job has had."""
    with pytest.raises(UnknownParentError):
        engine.options(after=1).enqueue("render")
    job = engine.options(after=engine.enqueue("render")).enqueue("render")
    with pytest.raises(UnknownParentError):
        engine.options(after=job.id + 1).enqueue("render")


def test_a_key_in_use_adds_no_parents(engine: Engine) -> None:
    first = engine.options(idempotency_key="k").enqueue("render")
    other = engine.options(after=first).enqueue("render")
    for parents in (first, other, [first, other], 99):
        again = engine.options(idempotency_key="k", after=parents).enqueue("render")
        assert (again.id, again.created, again.blocked_reason) == (first.id, False, None)
    assert parents_of(engine, first) == []
    assert count(engine) == 2


def test_a_retry_waits_for_no_job_that_waits_for_it(engine: Engine) -> None:
    first = engine.enqueue("render")
    engine.cancel(first.id)
    waiting = engine.options(after=first, on_parent_failure="wait").enqueue("render")
    again = engine.retry(first.id)
    assert (again.state, again.blocked_reason) == (JobState.PENDING, None)
    assert (parents_of(engine, again), parents_of(engine, waiting)) == ([], [again.id])
    assert engine.get_job(waiting.id).blocked_reason == "waiting for 1 job"


# ---------------------------------------------------------------- parents that have ended already


@pytest.mark.parametrize(
    ("policy", "state", "reason"),
    [
        (None, JobState.CANCELLED, None),
        ("cancel", JobState.CANCELLED, None),
        ("run", JobState.PENDING, "waiting for 1 job"),
        ("wait", JobState.PENDING, "waiting for 2 jobs"),
    ],
)
def test_a_parent_that_was_cancelled_before(
    engine: Engine, policy: Any, state: JobState, reason: str | None
) -> None:
    gone, there = engine.enqueue("render"), engine.enqueue("render")
    engine.cancel(gone.id)
    job = engine.options(after=[gone, there], on_parent_failure=policy).enqueue("render")
    assert (job.state, job.blocked_reason) == (state, reason)
    if state is JobState.CANCELLED:
        assert job.last_error is not None
        assert (job.last_error.type, job.last_error.message) == (
            "ParentFailedError",
            "job 1, which it waited for, was cancelled",
        )


# ---------------------------------------------------------------- in the caller's transaction


@pytest.mark.parametrize("isolation_level", [None, "", "IMMEDIATE"])
@pytest.mark.parametrize("begins", [True, False])
def test_on_the_callers_connection_it_is_stored_as_a_whole(
    engine: Engine, isolation_level: Any, begins: bool
) -> None:
    engine.enqueue("render")
    connection = sqlite3.connect(engine.store.location, isolation_level=isolation_level)
    if begins:
        connection.execute("BEGIN")
    door = engine.options(connection=connection, after=1)
    made = door.enqueue("render")
    assert made.blocked_reason == "waiting for 1 job"
    commits_each = isolation_level is None and not begins
    assert count(engine) == (2 if commits_each else 1)
    connection.rollback()
    assert count(engine) == (2 if commits_each else 1)
    door.enqueue("render")
    connection.commit()
    assert count(engine) == (3 if commits_each else 2)
    connection.close()


@pytest.mark.parametrize("isolation_level", [None, ""])
@pytest.mark.parametrize("begins", [True, False])
def test_an_unknown_parent_leaves_the_callers_transaction_as_it_was(
    engine: Engine, isolation_level: Any, begins: bool
) -> None:
    connection = sqlite3.connect(engine.store.location, isolation_level=isolation_level)
    connection.execute("CREATE TABLE orders (id)")
    if begins:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO orders VALUES (1)")
    with pytest.raises(UnknownParentError):
        engine.options(connection=connection, after=[5]).enqueue("render")
    assert connection.in_transaction is begins
    connection.commit()
    assert connection.execute("SELECT count(*) FROM orders").fetchone() == (int(begins),)
    assert count(engine) == 0
    connection.close()


def test_a_parent_may_be_of_the_same_transaction(engine: Engine) -> None:
    connection = sqlite3.connect(engine.store.location)
    door = engine.options(connection=connection)
    parent = door.enqueue("render")
    engine.options(connection=connection, after=parent).enqueue("render")
    connection.commit()
    connection.close()
    assert [each.blocked_reason for each in engine.list_jobs().items] == ["waiting for 1 job", None]


# ---------------------------------------------------------------- retry


def test_a_job_that_waits_is_not_run_by_retry(engine: Engine) -> None:
    job = engine.options(after=engine.enqueue("render"), delay=60).enqueue("render")
    with pytest.raises(
        InvalidStateError, match="job 2 is pending; it waits for job 1, and is due once that has ended"
    ):
        engine.retry(job.id)
    assert engine.get_job(job.id) == job


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
@pytest.mark.parametrize("policy", ["cancel", "wait"])
def test_a_chain_that_was_cancelled_is_retried_in_any_order(
    engine: Engine, order: Sequence[int], policy: Any
) -> None:
    """Each of the new jobs waits for the one that has taken the place of its parent."""
    first = engine.enqueue("render")
    second = engine.options(after=first, on_parent_failure=policy).enqueue("render")
    third = engine.options(after=second, on_parent_failure=policy).enqueue("render")
    for each in (first, second, third):
        if not engine.get_job(each.id).state.is_terminal:
            engine.cancel(each.id)
    new = {job_id: engine.retry(job_id) for job_id in order}
    reasons = [engine.get_job(new[each].id).blocked_reason for each in (1, 2, 3)]
    assert reasons == [None, "waiting for 1 job", "waiting for 1 job"]
    assert parents_of(engine, new[2]) == [new[1].id]
    assert parents_of(engine, new[3]) == [new[2].id]


def test_a_retry_does_not_wait_for_a_failed_parent_if_the_job_ran_without_it(engine: Engine) -> None:
    gone = engine.enqueue("render")
    engine.cancel(gone.id)
    job = engine.options(after=gone, on_parent_failure="run").enqueue("render")
    engine.cancel(job.id)
    again = engine.retry(job.id)
    assert (again.blocked_reason, parents_of(engine, again)) == (None, [gone.id])
    engine.cancel(again.id)
    new_parent = engine.retry(gone.id)
    last = engine.retry(again.id)
    assert (last.blocked_reason, parents_of(engine, last)) == ("waiting for 1 job", [new_parent.id])


def test_a_retry_does_not_wait_for_pruned_parents(engine: Engine) -> None:
    first, second = engine.enqueue("render"), engine.enqueue("render")
    job = engine.options(after=[first, second], on_parent_failure="wait").enqueue("render")
    for each in (first, second, job):
        engine.cancel(each.id)
    connection = sqlite3.connect(engine.store.location)
    connection.execute("DELETE FROM mpdispatch_jobs WHERE id = ?", (first.id,))
    connection.commit()
    connection.close()
    again = engine.retry(job.id)
    assert (again.blocked_reason, parents_of(engine, again)) == ("waiting for 1 job", [second.id])

"""Rows of batches that another program has changed: that batch alone suffers, and members end as ever."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mpdispatch.model import JobState, NewBatch, NewJob
from mpdispatch.store import SQLiteStore
from tests.clock import FakeClock

from .conftest import Desk, completed, failed


@pytest.fixture
def file_desk(file_store: SQLiteStore, clock: FakeClock) -> Iterator[Desk]:
    made = Desk(file_store, clock)
    yield made
    made.close()


CALLBACK = NewJob(name="report", payload=b"")


def change(path: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement, values)
        connection.commit()


@pytest.mark.parametrize(
    "job",
    [
        5,
        1.5,
        "",
        b"\xff",
        "[[[",
        '{"name":"report","payload":"","max_retries":-1}',
        '{"name":"report","payload":"","priority":9223372036854775808}',
        '{"name":"report","payload":"","delay_us":9223372036854775807}',
        '{"name":"report","payload":"","run_at_us":-9223372036854775808}',
    ],
)
def test_a_callback_that_is_no_job_keeps_nothing_from_ending(
    file_store: SQLiteStore, file_desk: Desk, path: Path, clock: FakeClock, job: Any
) -> None:
    batch_id, ids = file_store.enqueue_many(
        [NewJob(name="a", payload=b"{}")],
        batch=NewBatch(name="x", callbacks={"on_end": CALLBACK, "on_success": CALLBACK}),
    )
    assert batch_id is not None
    change(path, "UPDATE mpdispatch_callbacks SET job = ? WHERE event = 'on_end'", job)
    (claimed,) = file_desk.claim()
    file_desk.commit(completed(claimed, clock.now()))
    info = file_store.batches.get(batch_id)
    assert (file_store.state_of(ids[0]), info.ended_at is not None) == (JobState.COMPLETED, True)
    assert info.callbacks["on_end"].job_id is None
    assert info.callbacks["on_success"].job_id is not None


@pytest.mark.parametrize("column", ["completed", "failed", "cancelled", "total"])
def test_impossible_counts_keep_no_member_from_ending(
    file_store: SQLiteStore, file_desk: Desk, path: Path, clock: FakeClock, column: str
) -> None:
    batch_id, _ = file_store.enqueue_many([NewJob(name="a", payload=b"{}", max_retries=0)] * 3)
    change(path, f"UPDATE mpdispatch_batches SET {column} = ?", (1 << 63) - 1)
    one, two, three = file_desk.claim()
    file_desk.commit(completed(one, clock.now()), failed(two, clock.now()))
    file_store.cancel(three.id)
    file_desk.commit(completed(three, clock.now()))
    assert [file_store.state_of(job.id) for job in (one, two, three)] == ["completed", "failed", "completed"]
    assert batch_id is not None
    file_store.batches.get(batch_id)


def test_what_is_enqueued_again_after_too_many_failures_goes_on_until_the_next_one(
    file_store: SQLiteStore, file_desk: Desk, clock: FakeClock
) -> None:
    jobs = [NewJob(name="a", payload=b"{}", max_retries=0)] * 6
    batch_id, ids = file_store.enqueue_many(jobs, batch=NewBatch(name="x", max_fails=1))
    assert batch_id is not None
    first, second = file_desk.claim(2)
    file_desk.commit(failed(first, clock.now()), failed(second, clock.now()))
    assert file_store.batches.get(batch_id).counts[JobState.CANCELLED] == 4
    for job_id in ids[2:]:
        file_store.retry(job_id)
    one, two = file_desk.claim(2)
    file_desk.commit(completed(one, clock.now()))
    assert file_store.batches.get(batch_id).counts[JobState.CANCELLED] == 0
    file_desk.commit(failed(two, clock.now()))
    assert file_store.batches.get(batch_id).counts[JobState.CANCELLED] == 2

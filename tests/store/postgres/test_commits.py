"""Commits of supervisors beside transactions of others, which hold rows for as long as they like."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from mpdispatch.errors import StoreBusy
from mpdispatch.model import ClaimedJob, Job, JobState, NewBatch, NewJob, Output, Stream
from mpdispatch.store.contract import Store
from tests.clock import FakeClock
from tests.kinds import StoreKind
from tests.store.conftest import Desk, completed, failed
from tests.store.requests import request

pytestmark = pytest.mark.kinds("postgres")

Enqueue = Callable[..., Job]
_WAITS_S = 0.05
_SLOW_S = 1.0
"""A machine that is busy."""


@pytest.fixture
def app(store_kind: StoreKind, store: Store) -> Iterator[psycopg.Connection[Any]]:
    """An application's own connection, in autocommit."""
    connection = store_kind.app_connection(store)
    yield connection
    connection.close()


def table_of(store: Store) -> str:
    return f'"{store.location.rpartition("schema=")[2]}".mpdispatch_jobs'


def in_the_end(claim: Callable[[], list[ClaimedJob]]) -> list[ClaimedJob]:
    """As a supervisor, which asks again when the store is busy; each time it is told so at once."""
    for _ in range(3):
        began_s = time.monotonic()
        try:
            return claim()
        except StoreBusy:
            assert time.monotonic() - began_s < _WAITS_S + _SLOW_S
    raise AssertionError("it stays busy")


def test_a_due_job_that_another_transaction_holds_delays_no_other(
    store: Store, enqueue: Enqueue, desk: Desk, app: psycopg.Connection[Any]
) -> None:
    held, second, third = (enqueue().id for _ in range(3))
    app.execute("BEGIN")
    app.execute(f"SELECT 1 FROM {table_of(store)} WHERE id = {held} FOR UPDATE")
    claimed = in_the_end(lambda: desk.claim(slots=5))
    assert [job.id for job in claimed] == [second, third]
    app.execute("ROLLBACK")
    assert [job.id for job in desk.claim(slots=5)] == [held]


def test_parents_of_a_job_that_is_not_committed_do_not_end(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock, app: psycopg.Connection[Any]
) -> None:
    """Else the job would wait for a parent whose end nobody tells it."""
    parent = enqueue()
    (claimed,) = desk.claim()
    app.execute("BEGIN")
    child = store.enqueue(NewJob(name="a", payload=b"{}", after=(parent.id,)), connection=app)
    with pytest.raises(StoreBusy):
        desk.commit(completed(claimed, clock.now()))
    app.execute("COMMIT")
    assert store.state_of(child.id) is JobState.PENDING
    assert store.awaited(child.id)
    desk.commit(completed(claimed, clock.now()))
    assert not store.awaited(child.id)
    assert [job.id for job in desk.claim()] == [child.id]


def test_a_refused_enqueue_leaves_the_transaction_of_the_app_as_it_was(
    store: Store, app: psycopg.Connection[Any]
) -> None:
    app.execute("BEGIN")
    app.execute("CREATE TEMP TABLE kept (a int) ON COMMIT PRESERVE ROWS")
    with pytest.raises(Exception, match="job 99"):
        store.enqueue(NewJob(name="a", payload=b"{}", after=(99,)), connection=app)
    app.execute("INSERT INTO kept VALUES (1)")
    app.execute("COMMIT")
    assert app.execute("SELECT a FROM kept").fetchall() == [(1,)]
    assert store.counts()[JobState.PENDING] == 0


def test_members_are_counted_with_their_outcomes(store: Store, desk: Desk, clock: FakeClock) -> None:
    jobs = [NewJob(name="render", payload=b"{}") for _ in range(5)]
    callback = NewJob(name="report", payload=b"{}")
    made = store.enqueue_many(jobs, batch=NewBatch(name="b", callbacks={"on_end": callback}))
    assert made.batch_id is not None
    claimed = desk.claim(slots=3)
    (next_one,) = desk.commit(*(completed(job, clock.now()) for job in claimed), slots=1).claimed
    assert store.batches.get(made.batch_id).counts[JobState.COMPLETED] == 3
    result = desk.commit(failed(next_one, clock.now()), slots=5)
    (last,) = result.claimed
    result = desk.commit(completed(last, clock.now()), slots=5)
    found = store.batches.get(made.batch_id)
    assert found.ended_at is not None
    assert (found.counts[JobState.COMPLETED], found.counts[JobState.FAILED]) == (4, 1)
    assert [job.name for job in result.claimed] == ["report"]


def test_a_name_that_nobody_knows_is_parked_by_the_commit_that_meets_it(
    store: Store, enqueue: Enqueue, desk: Desk
) -> None:
    odd, known = enqueue(name="odd"), enqueue(name="render")
    result = desk.commit(slots=1, claim=request(names=frozenset({"render"})))
    assert [job.id for job in result.claimed] == [known.id]
    assert store.get(odd.id).blocked_reason is not None


def test_output_with_a_nul_is_kept_with_its_picture(store: Store, enqueue: Enqueue, desk: Desk) -> None:
    job = enqueue()
    (claimed,) = desk.claim()
    output = Output(job_id=job.id, starts=claimed.starts, stream=Stream.STDOUT, text="a\0b", written=3)
    desk.commit(outputs=[output])
    assert [each.text for each in store.outputs(job.id)] == ["a␀b"]

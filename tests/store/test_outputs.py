"""What starts wrote, on every kind of store."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mpdispatch.clock import Instant
from mpdispatch.errors import JobNotFoundError
from mpdispatch.model import Job, Output, Stream
from mpdispatch.store.contract import Store
from tests.clock import FakeClock

from .conftest import Desk, completed, retrying


def output(job: object, stream: Stream = Stream.STDOUT, text: str = "hi\n", written: int = 3) -> Output:
    return Output(job_id=job.id, starts=job.starts, stream=stream, text=text, written=written)  # type: ignore[attr-defined]


def test_output_is_seen_while_the_job_runs_and_in_its_attempt(
    store: Store, desk: Desk, enqueue: Callable[..., Job], now: Instant
) -> None:
    job = enqueue()
    (claimed,) = desk.claim()
    desk.commit(outputs=[output(claimed)])
    assert [(each.text, each.written) for each in store.outputs(job.id)] == [("hi\n", 3)]
    assert store.attempts(job.id) == []
    late = output(claimed, Stream.STDERR, "no\n")
    desk.commit(completed(claimed, now), outputs=[output(claimed, text="hi\nho\n", written=6), late])
    (attempt,) = store.attempts(job.id)
    assert (attempt.stdout, attempt.stderr, attempt.log) == ("hi\nho\n", "no\n", None)


def test_each_start_keeps_its_own_output(
    store: Store, desk: Desk, enqueue: Callable[..., Job], clock: FakeClock
) -> None:
    job = enqueue()
    for text in ("one", "two"):
        (claimed,) = desk.claim()
        desk.commit(retrying(claimed, clock.now(), in_s=0), outputs=[output(claimed, Stream.LOG, text)])
        clock.advance(1)
    assert [attempt.log for attempt in store.attempts(job.id)] == ["one", "two"]


def test_output_of_a_job_that_is_not_the_owners_any_more_is_dropped(
    store: Store, desk: Desk, new_desk: Callable[[], Desk], enqueue: Callable[..., Job], now: Instant
) -> None:
    job = enqueue()
    (claimed,) = desk.claim()
    new_desk().commit(outputs=[output(claimed)])
    stale = Output(job_id=job.id, starts=claimed.starts + 1, stream=Stream.STDOUT, text="x", written=1)
    desk.commit(outputs=[stale])
    assert store.outputs(job.id) == []
    desk.commit(completed(claimed, now))
    desk.commit(outputs=[output(claimed)])
    assert store.outputs(job.id) == []


def test_outputs_of_no_job_at_all_is_an_error(store: Store) -> None:
    with pytest.raises(JobNotFoundError):
        store.outputs(41)

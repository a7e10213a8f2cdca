"""Batches in tests: their members and callbacks run in this process."""

from __future__ import annotations

import asyncio

import pytest

from mpdispatch import JobFailedError, UsageError, testing
from tests.testing import app
from tests.testing.app import add, engine, picky, report


def reports() -> list[object]:
    return [each for each in app.log if each[0] == "report"]


def test_members_run_as_they_are_enqueued_and_the_callback_when_the_block_ends() -> None:
    with testing.inline(engine):
        with engine.batch("numbers", on_success=report) as batch:
            assert picky.enqueue(1).result == 1
            picky.enqueue(2)
            assert reports() == []
        assert reports() == [("report", batch.id, 2, 0)]
        assert batch.progress == 1
        assert [each.result for each in batch.results()] == [1, 2]
        assert batch.wait().ended_at is not None


def test_jobs_that_a_member_enqueues_are_no_members() -> None:
    with testing.inline(engine):
        with engine.batch("parents") as batch:
            app.parent.enqueue()
        assert batch.total == 1
        assert testing.assert_enqueued(engine, add, a=1).batch_id is None


def test_retried_members_end_it_with_success() -> None:
    with testing.inline(engine, raises=False):
        with engine.batch("numbers", on_success=report, on_failure=report) as batch:
            app.fragile.enqueue()
        assert reports() == [("report", batch.id, 0, 1)]
        app.is_mended.append(True)
        assert batch.retry_failed() == 1
        assert reports()[1:] == [("report", batch.id, 1, 0)]
        app.is_mended.clear()


def test_a_cancelled_batch_calls_back() -> None:
    with testing.isolated(engine):
        with engine.batch("numbers", on_end=report) as batch:
            add.options(delay=60).enqueue(1)
        with testing.inline(engine):
            assert batch.cancel().ended_at is not None
            assert reports() == [("report", batch.id, 0, 0)]


def test_wait_for_a_batch_lets_its_time_pass() -> None:
    with testing.isolated(engine) as clock:
        with engine.batch("numbers") as batch:
            add.options(delay=60).enqueue(1)
            app.flaky.enqueue(1)
        before = clock.time
        with testing.inline(engine):
            assert batch.wait().done == 2
            asyncio.run(batch.wait_async())
        assert 60 <= (clock.time - before).total_seconds() < 90


def test_wait_for_a_batch_that_nothing_ends_says_why() -> None:
    with testing.inline(engine):
        with engine.batch("numbers", open=True) as batch:
            add.enqueue(1)
        with pytest.raises(UsageError, match=r"nothing in this process will end batch \d+: it is open"):
            batch.wait()
        batch.close()
        engine.pause_queue("default")
        with engine.batch("held") as held:
            add.enqueue(1)
        with pytest.raises(UsageError, match="1 of its jobs have not ended"):
            held.wait()


def test_a_handler_waits_for_a_batch() -> None:
    with testing.isolated(engine):
        app.adding_many.enqueue(3)
        assert testing.drain(engine)[-1].result == [2, 3, 4]
        with testing.inline(engine):
            assert app.adding_many.enqueue(2).result == [2, 3]


def test_a_failing_member_raises_in_the_block_and_leaves_the_batch_open() -> None:
    with testing.inline(engine):
        with pytest.raises(JobFailedError), engine.batch("numbers") as batch:
            picky.enqueue(-1)
        assert batch.is_open

"""`drain` runs what is due in the test's process, and with the clock what becomes due."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from mpdispatch import JobState, UsageError, testing
from mpdispatch.store import SQLiteStore
from tests.testing import app
from tests.testing.app import add, engine


def test_it_gives_the_jobs_that_ended_in_the_order_of_a_supervisor() -> None:
    with testing.isolated(engine):
        low = add.enqueue(1)
        high = add.options(priority=5, queue="bulk").enqueue(2)
        failing = app.alarming.enqueue()
        assert (low.state, app.log) == (JobState.PENDING, [])
        ended = testing.drain(engine)
        assert [job.id for job in ended] == [high.id, low.id, failing.id, failing.id + 1]
        assert [str(job.state) for job in ended] == ["completed", "completed", "failed", "completed"]
        assert testing.drain(engine) == []


def test_retrying_and_scheduled_jobs_wait_for_the_clock() -> None:
    with testing.isolated(engine) as clock:
        flaky = app.flaky.enqueue(2)
        later = add.options(delay="1h").enqueue(1)
        assert testing.drain(engine) == []
        assert engine.state_of(flaky.id) is JobState.RETRYING
        clock.advance(60)
        assert testing.drain(engine) == []
        before = clock.time
        assert [job.id for job in testing.drain(engine, advance=timedelta(minutes=2))] == [flaky.id]
        assert 120 <= (clock.time - before).total_seconds() < 125
        assert [job.id for job in testing.drain(engine, advance="1h")] == [later.id]


def test_jobs_that_become_due_meanwhile_run_when_they_are_due() -> None:
    with testing.isolated(engine):
        for hours in (3, 1, 2):
            add.options(delay=hours * 3600).enqueue(hours)
        ended = testing.drain(engine, advance="1d")
    assert [job.result for job in ended] == [3, 4, 5]
    started = [job.started_at for job in ended if job.started_at is not None]
    assert [round((each - started[0]).total_seconds() / 3600) for each in started] == [0, 1, 2]


def test_until_ends_it_early() -> None:
    with testing.isolated(engine):
        add.enqueue_many({"a": number} for number in range(5))
        ended = testing.drain(engine, until=lambda: len(app.log) >= 4)
        assert len(ended) == 2
        assert engine.counts()[JobState.PENDING] == 3


def test_an_expired_job_is_cancelled() -> None:
    with testing.isolated(engine) as clock:
        job = add.options(expires=60).enqueue(1)
        clock.advance(61)
        assert [(each.id, each.state) for each in testing.drain(engine)] == [(job.id, JobState.CANCELLED)]


def test_a_handler_waits_for_a_job_that_is_scheduled() -> None:
    with testing.isolated(engine):
        app.waiting_parent.enqueue()
        assert [job.name for job in testing.drain(engine)] == ["add", "waiting_parent"]


def test_it_runs_jobs_of_a_store_in_a_file_on_the_machines_clock(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "jobs.db")
    with engine.dispatcher.on_store(store):
        add.enqueue(1)
        assert [job.result for job in testing.drain(engine)] == [3]
        assert store.supervisors() == []
        with pytest.raises(UsageError, match=r"the clock of .*jobs\.db is the machine's"):
            testing.drain(engine, advance=1)
        with pytest.raises(UsageError, match=r"testing\.isolated"):
            testing.clock(engine)
    store.close_all()


def test_a_handler_cannot_drain() -> None:
    with testing.isolated(engine):
        app.draining.enqueue()
        (job,) = testing.drain(engine)
    assert job.last_error is not None
    assert "drain() was called in a handler or a hook" in job.last_error.message


@pytest.mark.parametrize("advance", [-1, "soon", float("inf"), True])
def test_a_bad_advance_is_refused(advance: object) -> None:
    with testing.isolated(engine) as clock:
        with pytest.raises(UsageError, match="advance: must be"):
            testing.drain(engine, advance=advance)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="seconds: must be"):
            clock.advance(advance)  # type: ignore[arg-type]


def test_an_engine_at_work_keeps_its_store() -> None:
    with (
        engine.dispatcher.hold_store(),
        pytest.raises(UsageError, match="is at work on"),
        testing.isolated(engine),
    ):
        pass


def test_each_block_has_a_store_of_its_own() -> None:
    with testing.isolated(engine):
        add.enqueue(1)
        with testing.isolated(engine):
            assert sum(engine.counts().values()) == 0
        assert sum(engine.counts().values()) == 1


def test_what_a_supervisor_does_for_waiting_rows_is_done_too() -> None:
    with testing.isolated(engine) as clock:
        engine.pause_queue("default")
        job = add.options(expires=60).enqueue(1)
        clock.advance(61)
        assert [(each.id, each.state) for each in testing.drain(engine)] == [(job.id, JobState.CANCELLED)]

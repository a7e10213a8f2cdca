"""A drain fires the cron entries of the app, if it is told to, on the clock of the test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mpdispatch import UsageError, testing
from tests.testing import app
from tests.testing.app import nightly_engine


def test_each_slot_of_the_time_makes_one_job_when_it_is_due() -> None:
    with testing.isolated(nightly_engine):
        ended = testing.drain(nightly_engine, advance="3d", crons=True)
        nights = [job for job in ended if job.name == "nightly"]
        assert [job.name for job in ended] == ["at_start", "nightly", "nightly", "nightly"]
        for job in nights:
            assert job.slot is not None
            assert job.started_at is not None
            assert job.result == job.slot.isoformat()
            assert job.slot.hour in (1, 2)  # 3 o'clock in Berlin
            assert timedelta(0) <= job.started_at - job.slot < timedelta(seconds=5)
        assert testing.drain(nightly_engine, advance="1d", crons=True)[-1].slot == nights[-1].slot + timedelta(
            days=1
        )
        assert ("enqueued", nights[0].id) in app.recorder.told


def test_a_start_fires_once_whatever_its_jobs_enqueue() -> None:
    with testing.isolated(nightly_engine):
        nightly_engine.crons.add("enqueues", "@startup", job="enqueuing")
        names = [job.name for job in testing.drain(nightly_engine, crons=True)]
        assert sorted(names) == ["at_start", "at_start", "enqueuing"]


def test_slots_that_passed_before_catch_up_as_the_entry_says() -> None:
    with testing.isolated(nightly_engine) as clock:
        testing.drain(nightly_engine, crons=True)
        clock.advance("5d")
        ended = [job for job in testing.drain(nightly_engine, crons=True) if job.name == "nightly"]
        assert len(ended) == 1


def test_a_declared_entry_can_be_triggered() -> None:
    with testing.inline(nightly_engine):
        assert (
            nightly_engine.crons.trigger("nightly").result
            == nightly_engine.crons.history("nightly")[0].slot.isoformat()
        )


def test_an_entry_that_was_added_fires_too() -> None:
    with testing.isolated(nightly_engine):
        nightly_engine.crons.add("often", "@every 10m", job="at_start")
        ended = testing.drain(nightly_engine, advance="1h", crons=True)
        assert len([job for job in ended if job.slot is not None and job.name == "at_start"]) in (6, 7)


def test_nothing_fires_unless_it_is_told_to() -> None:
    with testing.isolated(nightly_engine):
        assert testing.drain(nightly_engine, advance="3d") == []


def test_the_slots_of_a_store_in_use_are_left_to_its_supervisors() -> None:
    with pytest.raises(UsageError, match=r"the clock of .* is the machine's"):
        testing.drain(nightly_engine, crons=True)


def test_the_time_goes_on_from_now() -> None:
    with testing.isolated(nightly_engine) as clock:
        assert abs((clock.time - datetime.now(UTC)).total_seconds()) < 5

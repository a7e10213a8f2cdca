"""A wall clock that is set back keeps no job that was put off from its next start."""

from __future__ import annotations

from mpdispatch.model import JobState
from tests.supervisor.conftest import Build
from tests.supervisor.house import House, ShiftedClock

DAY_S = 86_400.0


def _snoozing(house: House, seconds: float = 0.2) -> int:
    job_id = house.enqueue("snooze_once", seconds=seconds)
    house.until_state(job_id, JobState.SCHEDULED)
    return job_id


def test_a_job_that_was_put_off_waits_its_time_again_if_the_clock_is_set_back_while_we_run(
    build: Build,
) -> None:
    house = build(config={"poll_interval": 60.0})
    job_id = _snoozing(house, 5.0)
    house.clock.set_wall(-3 * DAY_S)
    house.store.wake()
    house.steps(20)
    assert house.state(job_id) is JobState.SCHEDULED, "not at once"
    house.clock.advance(5.5)
    house.store.wake()
    assert house.ended(job_id)[0].state is JobState.COMPLETED


def test_and_if_it_was_set_back_while_nobody_ran(build: Build) -> None:
    clock = ShiftedClock()
    first = build(clock=clock)
    job_id = _snoozing(first, 5.0)
    first.supervisor.leave()
    clock.set_wall(-3 * DAY_S)
    second = build(clock=clock)
    second.steps(20)
    clock.advance(5.5)
    assert second.ended(job_id)[0].state is JobState.COMPLETED


def test_a_retry_is_not_put_off_for_days(build: Build) -> None:
    house = build()
    job_id = house.enqueue("boom", {"max_retries": 1})
    house.until_state(job_id, JobState.RETRYING)
    house.clock.set_wall(-DAY_S)
    (job,) = house.ended(job_id)
    assert (job.state, job.starts) == (JobState.FAILED, 2)

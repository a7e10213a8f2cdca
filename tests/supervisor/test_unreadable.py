"""Rows that cannot be read, as the loop meets them: told once, counted as failed, and the others go on."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mpdispatch.model import JobState
from tests.store.odd import tamper
from tests.supervisor.house import House


def test_many_rows_that_cannot_be_read_are_told_in_a_few_lines(
    house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house.ready()
    ids = [house.enqueue("echo", value=3) for _ in range(3)]
    bad = [house.enqueue("echo", value=4) for _ in range(25)]
    tamper(tmp_path / "jobs.db", f"UPDATE mpdispatch_jobs SET priority = 'high' WHERE id >= {bad[0]}")
    with caplog.at_level(logging.ERROR):
        jobs = house.ended(*ids, *bad)
    assert [job.state for job in jobs] == [JobState.COMPLETED] * 3 + [JobState.FAILED] * 25
    assert house.supervisor.books.failed == 25
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if "UnreadableJob" in line]) == 10
    assert "and 15 more rows that cannot be read" in said


def test_a_row_of_ours_whose_start_cannot_be_read_ends_with_the_next_heartbeat(
    house: House, tmp_path: Path
) -> None:
    job_id = house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    tamper(tmp_path / "jobs.db", f"UPDATE mpdispatch_jobs SET starts = 'one' WHERE id = {job_id}")
    house.clock.advance(house.config.heartbeat_interval)
    (job,) = house.ended(job_id)
    assert job.state is JobState.FAILED
    assert job.last_error is not None
    assert "column starts holds TEXT 'one'" in job.last_error.message
    good = house.enqueue("echo", value=3)
    assert house.ended(good)[0].result == 3

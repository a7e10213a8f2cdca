"""Rows that cannot be read, as the loop meets them: told once, counted as failed, and the others go on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mpdispatch.config import QueueConfig
from mpdispatch.model import JobState, Transition
from mpdispatch.store.sqlite.supervisor_store import SQLiteSupervisorStore
from mpdispatch.store.values import CommitResult
from tests.store.odd import tamper
from tests.supervisor.conftest import Build
from tests.supervisor.house import House


def test_many_rows_that_cannot_be_read_are_told_in_a_few_lines(
    house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house.ready()
    ids = [house.enqueue("echo", value=3) for _ in range(3)]
    bad = [house.enqueue("echo", value=4) for _ in range(25)]
    tamper(tmp_path / "jobs.db", f"UPDATE mpdispatch_jobs SET name = CAST(x'ff' AS TEXT) WHERE id >= {bad[0]}")
    with caplog.at_level(logging.ERROR):
        jobs = house.ended(*ids, *bad)
    assert [job.state for job in jobs] == [JobState.COMPLETED] * 3 + [JobState.FAILED] * 25
    assert house.wiring.in_flight.failed == 25
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if "UnreadableJob" in line]) == 10
    assert "and 15 more rows that cannot be read" in said


def test_a_row_of_ours_whose_start_cannot_be_read_ends_with_the_next_heartbeat(
    house: House, tmp_path: Path
) -> None:
    job_id = house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    tamper(
        tmp_path / "jobs.db",
        f"UPDATE mpdispatch_jobs SET starts = 7, name = CAST(x'ff' AS TEXT) WHERE id = {job_id}",
    )
    house.clock.advance(house.config.heartbeat_interval)
    (job,) = house.ended(job_id)
    assert job.state is JobState.FAILED
    assert job.last_error is not None
    assert "column name holds bytes" in job.last_error.message
    good = house.enqueue("echo", value=3)
    assert house.ended(good)[0].result == 3


def test_one_is_told_of_that_is_met_when_a_rated_job_is_claimed_for_a_worker_that_waits(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = (QueueConfig("rated", rate_limit=1, rate_burst=1),)
    house = build(config={"queues": ["default", "rated"]}, queue_configs=limits)
    house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    bad, good = (house.enqueue("noop", {"queue": "rated"}) for _ in range(2))
    house.steps(20)
    commit = SQLiteSupervisorStore.commit

    def tampered(
        supervisor_store: SQLiteSupervisorStore,
        owner: int,
        transitions: Sequence[Transition],
        *reports: Any,
        **more: Any,
    ) -> CommitResult:
        if more["claim"] is not None and more["claim"].ready and not transitions:
            monkeypatch.undo()
            tamper(
                tmp_path / "jobs.db", f"UPDATE mpdispatch_jobs SET name = CAST(x'ff' AS TEXT) WHERE id = {bad}"
            )
        return commit(supervisor_store, owner, transitions, *reports, **more)

    monkeypatch.setattr(SQLiteSupervisorStore, "commit", tampered)
    (tmp_path / "gate").touch()
    jobs = house.ended(bad, good)
    house.steps(20)
    assert [job.state for job in jobs] == [JobState.FAILED, JobState.COMPLETED]
    assert house.wiring.in_flight.failed == 1

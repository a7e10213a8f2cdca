"""The JSON of jobs: every field, times in UTC with microseconds."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from mpdispatch import Engine
from mpdispatch.model import Attempt, Cause, ErrorInfo, Job
from mpdispatch.model.json import time_to_json, to_json


def test_times_are_utc_with_microseconds_and_z() -> None:
    assert time_to_json(datetime(2026, 3, 1, 12, 30, tzinfo=UTC)) == "2026-03-01T12:30:00.000000Z"
    east = timezone(timedelta(hours=2))
    assert time_to_json(datetime(2026, 3, 1, 1, 0, 0, 5, tzinfo=east)) == "2026-02-28T23:00:00.000005Z"
    assert time_to_json(datetime(999, 1, 1, tzinfo=UTC)) == "0999-01-01T00:00:00.000000Z"
    assert time_to_json(None) is None


def test_a_job_has_all_its_fields_as_json(tmp_path: Path) -> None:
    def render(path: str) -> None: ...

    made = Engine.open(tmp_path / "jobs.db").job(render).enqueue("a")
    said = to_json(made)
    assert said.keys() == set(Job.__struct_fields__)
    assert json.loads(json.dumps(said)) == said
    assert (said["state"], said["payload"], said["last_error"]) == ("pending", {"path": "a"}, None)


def test_an_attempt_has_all_its_fields_as_json() -> None:
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    attempt = Attempt(
        job_id=1,
        starts=2,
        attempt=1,
        cause=Cause.WORKER_DIED,
        started_at=moment,
        finished_at=moment,
        duration_s=0.5,
        worker_pid=9,
        error=ErrorInfo(type="WorkerDied", message="killed"),
        exit_status=None,
        signal="SIGKILL",
        cpu_s=None,
        max_rss_bytes=None,
    )
    said = to_json(attempt)
    assert said.keys() == set(Attempt.__struct_fields__)
    assert said["error"] == {"type": "WorkerDied", "message": "killed", "traceback": ""}
    assert json.loads(json.dumps(said)) == said


def test_a_printed_job_is_short_and_keeps_its_fields(tmp_path: Path) -> None:
    def render(path: str) -> None: ...

    job = Engine.open(tmp_path / "jobs.db").job(queue="bulk")(render).enqueue("a" * 10_000)
    short = "Job(id=1, name='render', queue='bulk', state='pending', attempt=0)"
    assert (repr(job), str(job), f"{job}") == (short, short, short)
    assert job.payload == {"path": "a" * 10_000}

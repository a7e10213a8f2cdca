"""A handler can be called directly, with a job context that records."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mpdispatch import DispatchError, UsageError, current_engine, current_job, testing
from tests.testing import app


def test_it_records_every_report_without_a_thread() -> None:
    threads = threading.active_count()
    with testing.job_context() as job:
        assert app.render(Path("a.pdf"))["is_path"]
        for done in range(50):
            current_job().progress(done, total=50)
        assert threading.active_count() == threads
    assert job.logged == ["rendered a.pdf"]
    assert job.progressed[0] == (1, 2, "a.pdf")
    assert [each.done for each in job.progressed[1:]] == list(range(50))


def test_its_facts_are_those_given() -> None:
    moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
    with testing.job_context(
        id=7,
        name="render",
        queue="bulk",
        attempt=2,
        max_retries=5,
        deadline=moment,
        slot=moment,
        is_cancelled=True,
    ):
        job = current_job()
        assert (job.id, job.name, job.queue, job.attempt, job.max_retries) == (7, "render", "bulk", 2, 5)
        assert (job.deadline, job.slot, job.is_cancelled, job.fencing_token) == (moment, moment, True, 2)
        assert job.idempotency_key is None


def test_a_report_that_a_job_would_refuse_is_refused() -> None:
    with testing.job_context() as job, pytest.raises(UsageError, match="progress: done must be a number"):
        job.progress(-1)
    assert job.progressed == []


def test_contexts_and_engines_are_put_back() -> None:
    with testing.job_context(id=1, engine=app.engine) as outer:
        with testing.job_context(id=2):
            assert current_job().id == 2
            assert current_engine() is app.engine
        assert current_job() is outer
    for ask in (current_job, current_engine):
        with pytest.raises(DispatchError):
            ask()


@pytest.mark.parametrize("field", ["deadline", "slot"])
def test_a_time_without_a_zone_is_refused(field: str) -> None:
    with (
        pytest.raises(UsageError, match=f"{field}: must be an aware datetime"),
        testing.job_context(
            **{field: datetime(2026, 1, 1)}  # type: ignore[arg-type]
        ),
    ):
        pass


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", 0),
        ("id", "7"),
        ("attempt", True),
        ("max_retries", -1),
        ("fencing_token", 0),
        ("name", ""),
        ("queue", 5),
    ],
)
def test_what_no_job_can_have_is_refused(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=field), testing.job_context(**{field: value}):
        pass

"""The option `expires`: what it may be, and from when it counts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mpdispatch import Engine, RegistrationError, UsageError
from mpdispatch.model import Job, NewJob
from mpdispatch.model.json import to_json


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine.open(tmp_path / "jobs.db")
    engine.store.migrate()
    yield engine
    engine.store.close()


def render(path: str) -> None: ...


def _after(job: Job) -> float | None:
    """So many seconds after its enqueue it expires."""
    return None if job.expires_at is None else (job.expires_at - job.created_at).total_seconds()


@pytest.mark.parametrize("expires", [60, 60.0, timedelta(minutes=1), "1m", "60"])
def test_a_duration_counts_from_the_enqueue(engine: Engine, expires: Any) -> None:
    handle = engine.job(render)
    assert _after(handle.options(expires=expires).enqueue("a")) == 60
    assert _after(engine.options(expires=expires).enqueue("render", "a")) == 60
    (job_id,) = handle.options(expires=expires).enqueue_many([{"path": "a"}])
    assert _after(engine.get_job(job_id)) == 60


def test_a_duration_counts_when_the_job_is_enqueued_and_not_when_it_is_said(engine: Engine) -> None:
    door = engine.job(render).options(expires=60)
    time.sleep(0.05)
    assert _after(door.enqueue("a")) == 60


def test_a_time_is_that_time(engine: Engine) -> None:
    at = datetime(2099, 5, 1, 12, 30, tzinfo=UTC)
    job = engine.job(render).options(expires=at).enqueue("a")
    assert job.expires_at == at
    assert engine.get_job(job.id) == job
    assert to_json(job)["expires_at"] == "2099-05-01T12:30:00.000000Z"


def test_a_handler_gives_it_to_its_jobs_unless_an_option_says_otherwise(engine: Engine) -> None:
    handle = engine.job(expires="5m")(render)
    assert _after(handle.enqueue("a")) == 300
    assert _after(handle.options(expires=2).enqueue("a")) == 2
    assert _after(handle.options(expires=None).enqueue("a")) is None


def test_without_it_a_job_never_expires(engine: Engine) -> None:
    job = engine.job(render).enqueue("a")
    assert (job.expires_at, to_json(job)["expires_at"]) == (None, None)


def test_the_job_of_a_slot_counts_from_when_it_is_due(engine: Engine) -> None:
    slot_us = time.time_ns() // 1000 - 10_000_000
    job = engine.add_job(
        NewJob(
            name="render", payload=b"{}", slot_us=slot_us, run_at_us=slot_us + 5_000_000, expires_us=60_000_000
        )
    )
    assert job.slot is not None
    assert job.expires_at == job.slot + timedelta(seconds=65)
    assert engine.get_job(job.id) == job


@pytest.mark.parametrize(
    ("expires", "text"),
    [
        (0, "expires: must be more than zero seconds"),
        (-1, "expires: must be from 0 s"),
        (float("nan"), "expires: must be from 0 s"),
        ("soon", "expires: must be a duration such as"),
        (True, "expires: must be seconds"),
        ([5], "expires: must be seconds"),
        (datetime(2099, 1, 1), "expires: .*no time zone"),
    ],
)
def test_what_it_cannot_be_is_refused_by_name(engine: Engine, expires: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        engine.job(render).options(expires=expires)
    with pytest.raises(RegistrationError, match=f"job 'other': {text}"):
        engine.job("other", expires=expires)(render)


def test_of_a_handler_it_is_a_duration(engine: Engine) -> None:
    with pytest.raises(RegistrationError, match="expires: of a handler it must be a duration"):
        engine.job(expires=datetime(2099, 1, 1, tzinfo=UTC))(render)  # type: ignore[arg-type]


def test_a_time_that_is_over_is_refused_and_no_job_is_made(engine: Engine) -> None:
    door = engine.job(render).options(expires=datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(UsageError, match=r"expires: 2020-01-01T00:00:00\.000000Z is over"):
        door.enqueue("a")
    assert engine.list_jobs().items == []


@pytest.mark.parametrize("options", [{"delay": 60, "expires": 60}, {"delay": "1h"}])
def test_a_job_that_would_expire_before_it_is_due_is_refused(engine: Engine, options: Any) -> None:
    handle = engine.job(expires=30)(render)
    for enqueue in (
        lambda: handle.options(**options).enqueue("a"),
        lambda: handle.options(**options).enqueue_many([{"path": "a"}]),
    ):
        with pytest.raises(UsageError, match=r"expires: the job would expire at .*, and it is due at"):
            enqueue()
    assert engine.list_jobs().items == []
    assert _after(handle.options(delay="1h", expires=7200).enqueue("a")) == 7200


def test_explain_says_when_a_waiting_job_expires_and_that_it_has(engine: Engine) -> None:
    handle = engine.job(render)
    waiting = handle.options(expires=60).enqueue("a")
    _, reasons = engine.explain(waiting.id)
    assert [each.code for each in reasons] == ["no_supervisor", "expiring"]
    assert "it is cancelled" in str(reasons[-1])
    short = handle.options(expires=0.001).enqueue("a")
    time.sleep(0.01)
    _, reasons = engine.explain(short.id)
    assert [each.code for each in reasons] == ["expired"]
    assert "the next supervisor cancels it" in str(reasons[0])

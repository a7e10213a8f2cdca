"""Jobs that are not started in time, under supervisors of their own."""

from __future__ import annotations

import time

import pytest

from mpdispatch import JobCancelledError
from tests.whole.harness import Place, until


def _causes(place: Place, job_id: int) -> list[str]:
    return [str(each.cause) for each in place.app.engine.attempts(job_id)]


def test_jobs_claimed_ahead_behind_a_slow_one_are_cancelled_while_it_runs(place: Place) -> None:
    place.supervising("-c", "1", prefetch_window=0.5)
    for job_id in place.app.once.enqueue_many({"s": 0} for _ in range(200)):
        place.complete(job_id)
    (slow,) = place.app.until_file.enqueue_many([{"name": "go"}])
    rest = list(place.app.once.options(expires=1.5).enqueue_many({"s": 0} for _ in range(30)))
    place.started(slow)
    for job_id in rest:
        place.ended(job_id, "cancelled", within=8)
        assert _causes(place, job_id) == ["expired"]
        assert place.starts_of(job_id) == []
    assert str(place.job(slow).state) == "running"
    (place.folder / "go").touch()
    place.complete(slow)
    place.complete(place.app.once.enqueue(s=0).id)


def test_a_wait_and_the_history_say_that_it_expired(place: Place) -> None:
    engine = place.app.engine
    job_id = place.app.once.options(expires=0.2, queue="closed").enqueue().id
    engine.pause_queue("closed")
    place.supervising("-c", "1", queues="default,closed")
    with pytest.raises(JobCancelledError, match=rf"job {job_id} \(once\) was cancelled: it expired: .*by 20"):
        engine.wait(job_id, timeout=10)
    shown = place.show(job_id)
    assert (shown["state"], shown["expires_at"]) == ("cancelled", None)
    assert [each["cause"] for each in shown["attempts"]] == ["expired"]
    assert "it expired" in place.cli("explain", str(job_id), "--store", "jobs.db").stdout


def test_jobs_of_a_killed_supervisor_expire_if_they_were_not_begun(place: Place) -> None:
    first = place.supervising("-c", "1", prefetch_window=30)
    for job_id in place.app.once.enqueue_many({"s": 0} for _ in range(200)):
        place.complete(job_id)
    slow = place.app.until_file.options(expires=2).enqueue("go").id
    rest = list(place.app.once.options(expires=2).enqueue_many({"s": 0} for _ in range(30)))
    place.started(slow)
    until(lambda: place.counts()["running"] > 5, "some are claimed behind it")
    first.kill()
    last = place.job(rest[-1]).created_at.timestamp() + 2
    until(lambda: time.time() > last, "the time is over")
    (place.folder / "go").touch()
    second = place.supervise("-c", "1", "--drain")
    for job_id in rest:
        place.ended(job_id, "cancelled", within=10)
        assert place.starts_of(job_id) == []
    assert second.ended() == 0
    place.complete(slow)
    assert _causes(place, slow) == ["lease_lost", "completed"]

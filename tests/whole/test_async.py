"""Handlers that are `async def` end as the others do."""

from __future__ import annotations

import pytest

from tests.whole.harness import Place, is_alive


def test_an_async_handler_gives_its_result_in_a_worker_that_goes_on(place: Place) -> None:
    place.supervising("-c", "1")
    jobs = [place.complete(place.app.later.enqueue(n).id) for n in range(5)]
    assert [job.result for job in jobs] == [0, 1, 2, 3, 4]
    assert len({job.worker_pid for job in jobs}) == 1


def test_tasks_left_on_the_loop_harm_no_later_job(place: Place) -> None:
    place.supervising("-c", "1")
    assert place.complete(place.app.leave_tasks.enqueue().id).result == 1
    assert place.complete(place.app.later.enqueue(2).id, within=3).result == 2
    assert place.complete(place.app.quick.enqueue(n=3).id, within=3).result == 3


@pytest.mark.parametrize("name", ["linger", "linger_stubbornly"])
def test_an_async_handler_ends_at_its_timeout(place: Place, name: str) -> None:
    place.supervising("-c", "1")
    job = place.ended(getattr(place.app, name).options(timeout=0.5).enqueue().id, "failed")
    assert job.last_error.type == "JobTimeout"
    assert 0.5 <= (job.completed_at - job.started_at).total_seconds() < 1.5
    assert place.complete(place.app.later.enqueue(1).id).result == 1


@pytest.mark.parametrize("name", ["linger", "linger_stubbornly"])
def test_an_async_handler_is_cancelled(place: Place, name: str) -> None:
    place.supervising("-c", "1", cancel_grace=0.3)
    job_id = getattr(place.app, name).enqueue().id
    pid = place.started(job_id)[3]
    place.app.engine.cancel(job_id)
    place.ended(job_id, "cancelled", within=3)
    assert is_alive(pid) == (name == "linger"), "the worker survives if the handler gives in"

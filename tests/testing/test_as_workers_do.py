"""What is kept of a job is the same whether it ran inline, in a drain or in a real worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mpdispatch import Job, JobState, testing
from tests.testing import app
from tests.testing.app import engine

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("add", {"a": 1}),
    ("async_add", {"a": 1}),
    ("render", {"path": "a.pdf", "dpi": 600}),
    ("unsteady", {}),
    ("hopeless", {}),
    ("steered", {"how": "cancel"}),
    ("steered", {"how": "unkept"}),
    ("slow", {}),
    ("async_slow", {}),
]


def enqueue_all() -> list[int]:
    return [engine.enqueue(name, **arguments).id for name, arguments in CALLS]


def facts(job_id: int) -> list[object]:
    """All that is kept, but times and the process."""
    job: Job = engine.get_job(job_id)
    error = job.last_error
    return [
        *(job.name, job.state, job.payload, job.result, job.progress, job.attempt, job.starts),
        error and (error.type, error.message, error.traceback),
        [
            (each.starts, each.attempt, each.cause, each.error and str(each.error), each.log, each.signal)
            for each in engine.attempts(job_id)
        ],
    ]


def test_it_is_the_same(tmp_path: Path) -> None:
    with testing.inline(engine, raises=False):
        inline = [facts(job_id) for job_id in enqueue_all()]
    with testing.isolated(engine):
        ids = enqueue_all()
        testing.drain(engine)
        drained = [facts(job_id) for job_id in ids]
    with testing.isolated(engine, tmp_path / "jobs.db"):
        ids = enqueue_all()
        with engine.dispatcher:
            ended = [job.id for job in engine.as_completed(ids, timeout=60)]
        worked = [facts(job_id) for job_id in ids]
    assert sorted(ended) == ids
    assert {fact[1] for fact in worked} == {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}
    for by_worker, by_inline, by_drain in zip(worked, inline, drained, strict=True):
        assert by_inline == by_worker
        assert by_drain == by_worker
    assert app.STORE.exists() is False

"""Callbacks of batches and jobs that wait for others run by themselves, as the store has them follow."""

from __future__ import annotations

import msgspec
import pytest

from mpdispatch import Job, JobState, testing
from mpdispatch.model import AlikeJobs, NewBatch, NewJob
from tests.testing import app
from tests.testing.app import engine


def enqueue_batch(numbers: list[int], **options: object) -> int:
    """A batch of `picky` jobs with both callbacks."""
    callback = NewJob(name="report", payload=b"")
    batch = NewBatch(
        name="numbers",
        callbacks={"on_success": callback, "on_failure": callback},
        **options,  # type: ignore[arg-type]
    )
    template = NewJob(name="picky", payload=b"{}", max_retries=0)
    made = engine.add_jobs(template, [msgspec.json.encode({"number": each}) for each in numbers], batch)
    assert made.batch_id is not None
    return made.batch_id


def dependent(*parents: int, **fields: object) -> Job:
    payload = msgspec.json.encode({"parents": parents})
    return engine.add_job(NewJob(name="gather", payload=payload, after=parents, **fields))  # type: ignore[arg-type]


def reports() -> list[object]:
    return [each for each in app.log if each[0] == "report"]


def test_a_callback_runs_when_the_last_member_has_ended() -> None:
    with testing.inline(engine):
        batch = enqueue_batch([1, 2, 3])
        assert reports() == [("report", batch, 3, 0)]
        (job,) = testing.all_enqueued(engine, "report")
        assert job.result == "3 of 3"
        assert ("enqueued", job.id) in app.recorder.told


def test_a_drain_gives_members_and_callback() -> None:
    with testing.isolated(engine):
        batch = enqueue_batch([1, -1, 2])
        ended = testing.drain(engine)
        assert [(job.name, str(job.state)) for job in ended] == [
            ("picky", "completed"),
            ("picky", "failed"),
            ("picky", "completed"),
            ("report", "completed"),
        ]
        assert reports() == [("report", batch, 2, 1)]
        (letter,) = engine.dead_letters.list().items
        engine.retry(letter.id)
        assert testing.drain(engine)[-1].state is JobState.FAILED
        assert len(reports()) == 1


def test_too_many_failures_cancel_the_rest() -> None:
    with testing.isolated(engine):
        enqueue_batch([-1, -2, 3, 4], max_fails=1)
        ended = testing.drain(engine)
        assert [str(job.state) for job in ended] == ["failed", "failed", "cancelled", "cancelled", "completed"]


def test_a_dependent_runs_after_its_parents() -> None:
    with testing.isolated(engine):
        parents = [app.add.enqueue(number).id for number in range(3)]
        last = dependent(*parents)
        assert last.state is JobState.PENDING
        ended = testing.drain(engine)
        assert (ended[-1].id, ended[-1].result) == (last.id, [2, 3, 4])


def test_inline_a_dependent_runs_once_its_parent_is_due() -> None:
    with testing.isolated(engine) as clock:
        before = clock.time
        child = dependent(app.add.options(delay=3600).enqueue(1).id)
        grandchild = dependent(child.id)
        with testing.inline(engine):
            assert engine.wait(grandchild.id).result == [[3]]
            assert dependent(grandchild.id).result == [[[3]]]
        assert 3600 <= (clock.time - before).total_seconds() < 3700


@pytest.mark.parametrize("is_inline", [True, False])
def test_dependents_of_a_failed_parent_are_cancelled(is_inline: bool) -> None:
    with testing.isolated(engine):
        parent = engine.options(delay=60).enqueue("picky", number=-1).id
        child = dependent(parent)
        grandchild = dependent(child.id)
        if is_inline:
            with testing.inline(engine, raises=False):
                assert engine.retry(parent).state is JobState.FAILED
        else:
            assert [job.id for job in testing.drain(engine, advance=60)] == [parent, child.id, grandchild.id]
        error = engine.get_job(grandchild.id).last_error
        assert error is not None
        assert error.type == "ParentFailedError"


def test_a_callback_runs_when_the_last_member_was_cancelled() -> None:
    with testing.isolated(engine), testing.inline(engine):
        engine.pause_queue("default")
        batch = enqueue_batch([1, 2])
        for job in testing.all_enqueued(engine, "picky", batch_id=batch):
            engine.cancel(job.id)
        assert reports() == []
        engine.resume_queue("default")
        assert reports() == [("report", batch, 0, 0)]


def test_alike_jobs_of_a_batch_are_found_by_it() -> None:
    with testing.isolated(engine):
        made = engine.store.enqueue_many(AlikeJobs(NewJob(name="picky", payload=b"{}"), [b'{"number":1}']))
        assert [job.id for job in testing.all_enqueued(engine, batch_id=made.batch_id)] == list(made.ids)

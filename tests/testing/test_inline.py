"""In inline mode an enqueue runs its job at once, by the worker's own parts."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from contextvars import copy_context
from itertools import pairwise
from pathlib import Path

import pytest

from mpdispatch import DispatchError, Job, JobFailedError, JobState, UsageError, testing
from mpdispatch.model import COMMAND_JOB, NewJob
from tests.testing import app
from tests.testing.app import add, engine, recorder


def test_an_enqueue_gives_the_job_as_it_ended() -> None:
    with testing.inline(engine):
        job = add.enqueue(1, b=5)
        assert (job.state, job.result, job.attempt, job.created) == (JobState.COMPLETED, 6, 1, True)
        assert engine.enqueue("add", a=2).result == 4
        assert engine.get_job(job.id) == job
    assert app.log == [("in", "add", 1), ("out", "add")] * 2


def test_arguments_and_result_go_through_json() -> None:
    with testing.inline(engine):
        job = app.render.enqueue(Path("a.pdf"))
        assert job.result == {"path": "a.pdf", "is_path": True, "dpi": 300}
        assert job.payload == {"path": "a.pdf"}


def test_what_a_handler_reports_is_kept() -> None:
    with testing.inline(engine):
        job = app.render.enqueue(Path("a.pdf"))
        (attempt,) = engine.attempts(job.id)
    assert job.progress == {"done": 1, "total": 2, "message": "a.pdf"}
    assert (attempt.log, attempt.worker_pid) == ("rendered a.pdf\n", os.getpid())


def test_a_failure_is_retried_after_its_backoff_on_a_clock_that_nobody_waits_for() -> None:
    began = time.monotonic()
    with testing.inline(engine) as clock:
        before = clock.time
        job = app.flaky.enqueue(2)
        passed = (clock.time - before).total_seconds()
        attempts = engine.attempts(job.id)
    assert (job.result, job.attempt) == (3, 3)
    assert 120 <= passed < 150
    assert time.monotonic() - began < 30
    gaps = [(b.started_at - a.finished_at).total_seconds() for a, b in pairwise(attempts)]
    assert all(60 <= gap < 70 for gap in gaps)
    assert [each.error is not None and each.error.type for each in attempts] == ["ConnectionError"] * 2 + [
        False
    ]


def test_a_job_that_failed_for_good_raises_from_what_its_handler_raised() -> None:
    with testing.inline(engine):
        with pytest.raises(
            JobFailedError, match=r"job 1 \(flaky\) failed: ConnectionError: attempt 4"
        ) as raised:
            app.flaky.enqueue(9)
        assert isinstance(raised.value.__cause__, ConnectionError)
        assert raised.value.job.state is JobState.FAILED
        assert [letter.id for letter in engine.dead_letters.list().items] == [1]


def test_the_kept_traceback_shows_the_handler_and_nothing_of_ours() -> None:
    with testing.inline(engine, raises=False):
        error = app.alarming.enqueue().last_error
    assert error is not None
    assert 'raise LookupError("nothing there")' in error.traceback
    assert "mpdispatch/testing" not in error.traceback


def test_with_raises_false_the_caller_gets_the_failed_job() -> None:
    with testing.inline(engine, raises=False):
        job = app.alarming.enqueue()
        assert (job.state, job.attempt) == (JobState.FAILED, 1)
        replayed = engine.dead_letters.replay(job.id)
        assert (replayed.state, replayed.retried_from) == (JobState.FAILED, job.id)
        assert engine.retry(replayed.id).state is JobState.FAILED


@pytest.mark.parametrize(
    ("how", "state", "result"),
    [
        ("retry", JobState.COMPLETED, "start 2, attempt 2"),
        ("snooze", JobState.COMPLETED, "start 2, attempt 1"),
        ("cancel", JobState.CANCELLED, None),
        ("exit", JobState.COMPLETED, "start 2, attempt 2"),
        ("unkept", JobState.FAILED, None),
    ],
)
def test_a_handler_steers_its_job(how: str, state: JobState, result: str | None) -> None:
    with testing.inline(engine, raises=False):
        job = app.steered.enqueue(how)
    assert (job.state, job.result) == (state, result)


def test_failed_attempts_are_logged_as_a_supervisor_does(caplog: pytest.LogCaptureFixture) -> None:
    with testing.inline(engine, raises=False):
        app.flaky.enqueue(1)
        app.alarming.enqueue()
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "job 1 (flaky) runs again: ConnectionError: attempt 1",
        "job 2 (alarming) failed: LookupError: nothing there",
    ]


def test_many_threads_enqueue_and_one_job_runs_at_a_time() -> None:
    results = dict[int, int]()

    def enqueue(number: int) -> None:
        for each in range(number, number + 20):
            job = app.alone.enqueue(each)
            results[each] = engine.wait(job.id).result

    with testing.inline(engine):
        threads = [threading.Thread(target=enqueue, args=(100 * number,)) for number in range(4)]
        contexts = [copy_context() for _ in range(4)]
        threads += [
            threading.Thread(target=context.run, args=(enqueue, 1000 + 100 * number))
            for number, context in enumerate(contexts)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert engine.counts()[JobState.COMPLETED] == 160
    assert results == {each: each for each in results}
    assert len(results) == 160


def test_hooks_were_told_when_the_enqueue_returns() -> None:
    with testing.inline(engine, raises=False):
        add.enqueue(1)
        assert recorder.told == [("enqueued", 1), ("started", 1), ("completed", 1)]
        recorder.told.clear()
        app.flaky.enqueue(1)
        assert recorder.told == [
            ("enqueued", 2),
            ("started", 2),
            ("retrying", 2),
            ("started", 2),
            ("completed", 2),
        ]


def test_a_job_that_a_hook_enqueues_runs_too() -> None:
    with testing.inline(engine, raises=False):
        job = app.alarming.enqueue()
        assert ("enqueued by a hook", job.id + 1) in recorder.told
        assert engine.get_job(job.id + 1).result == 42
        assert recorder.told[-1] == ("completed", job.id + 1)


def test_a_delayed_job_runs_at_once_with_the_clock_advanced() -> None:
    with testing.inline(engine) as clock:
        before = clock.time
        job = add.options(delay="3d").enqueue(1)
        assert job.state is JobState.COMPLETED
        assert job.started_at is not None
        assert (job.started_at - before).days == 3


def test_enqueue_many_runs_all() -> None:
    with testing.inline(engine):
        ids = list(add.enqueue_many({"a": number} for number in range(5)))
        assert [engine.get_job(each).result for each in ids] == [2, 3, 4, 5, 6]


def test_an_idempotency_key_gives_the_older_job() -> None:
    with testing.inline(engine):
        first = add.options(idempotency_key="k").enqueue(1)
        second = add.options(idempotency_key="k").enqueue(1)
    assert (second.id, second.created, second.result) == (first.id, False, 3)
    assert len(app.log) == 2


def test_jobs_that_a_handler_enqueues_run_after_it() -> None:
    with testing.inline(engine):
        job = app.parent.enqueue()
        assert job.result == "pending"
        assert engine.get_job(job.id + 1).result == 3
    assert app.log == [
        ("in", "parent", 1),
        ("child", "pending"),
        ("out", "parent"),
        ("in", "add", 1),
        ("out", "add"),
    ]


def test_a_job_that_a_handler_enqueues_for_later_waits_for_the_clock() -> None:
    with testing.inline(engine) as clock:
        child = app.parent.enqueue(delay=3600).id + 1
        assert engine.state_of(child) is JobState.SCHEDULED
        clock.advance("30m")
        assert testing.drain(engine) == []
        assert engine.wait(child).result == 3
        assert (engine.get_job(child).run_at - engine.get_job(child).created_at).total_seconds() == 3600


def test_a_failure_of_a_job_that_a_handler_enqueued_raises_too() -> None:
    with testing.inline(engine), pytest.raises(JobFailedError, match="alarming"):
        app.alarming_parent.enqueue()


def test_wait_in_a_handler_runs_the_job_that_it_waits_for() -> None:
    with testing.inline(engine):
        assert app.waiting_parent.enqueue().result == [3, "waiting_parent"]


def test_wait_on_a_thread_of_a_handler_runs_the_job_too() -> None:
    with testing.inline(engine):
        assert app.threaded.enqueue().result == [7, True]


def test_an_async_handler_enqueues_and_waits() -> None:
    began = time.monotonic()
    with testing.inline(engine):
        assert app.gathering.enqueue(3).result == [[1, 2, 3], 11, "gathering"]
    assert time.monotonic() - began < 3  # nobody waited for threads of the loop outside: four times 1 s


def test_async_code_enqueues_and_waits() -> None:
    async def test() -> None:
        jobs = await asyncio.gather(*(app.async_add.enqueue_async(number) for number in range(4)))
        assert [job.result for job in jobs] == [1, 2, 3, 4]
        assert app.async_add.enqueue(1).result == 2  # an event loop runs in this thread
        child = (await app.parent.enqueue_async(delay=60)).id + 1
        assert (await engine.wait_async(child)).result == 3

    with testing.inline(engine):
        asyncio.run(test())


@pytest.mark.parametrize("handler", [app.slow, app.async_slow])
def test_a_timeout_interrupts_the_handler(handler: object) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with testing.inline(engine), pytest.raises(JobFailedError, match=r"ran longer than its timeout of 0\.1 s"):
        handler.enqueue()  # type: ignore[attr-defined]
    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_handler_sees_no_context_variables_of_who_enqueued_its_job() -> None:
    async def test() -> object:
        return app.which_request.enqueue().result  # on a thread, as this one runs a loop

    token = app.request.set("of the test")
    with testing.inline(engine):
        assert app.which_request.enqueue().result == "none"
        assert asyncio.run(test()) == "none"
    assert app.request.get() == "of the test"
    app.request.reset(token)


def test_a_paused_queue_keeps_its_job_and_wait_says_why() -> None:
    with testing.inline(engine):
        engine.pause_queue("default")
        job = add.enqueue(1)
        assert job.state is JobState.PENDING
        with pytest.raises(
            UsageError, match=r"job 1 is pending, and nothing in this process will end it: .*paused"
        ):
            engine.wait(job.id)
        engine.resume_queue("default")
        assert engine.wait(job.id).result == 3


def test_a_command_job_is_refused() -> None:
    payload = b'{"argv":["true"],"cwd":"/","env":{}}'
    with testing.inline(engine), pytest.raises(UsageError, match="job 1 is a program"):
        engine.add_job(NewJob(name=COMMAND_JOB, payload=payload))


def test_a_job_of_a_transaction_runs_after_the_commit(tmp_path: Path) -> None:
    import sqlite3

    with testing.isolated(engine, tmp_path / "jobs.db"), testing.inline(engine):
        engine.counts()
        connection = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        job = add.options(connection=connection).enqueue(1)
        assert job.state is JobState.PENDING
        connection.execute("COMMIT")
        engine.wake()
        assert engine.get_job(job.id).result == 3
        connection.close()


def test_a_job_that_never_ends_is_named() -> None:
    with (
        testing.inline(engine),
        pytest.raises(DispatchError, match=r"job 1 \(always_later\) was started 1,000 times"),
    ):
        app.always_later.enqueue()


def test_ctrl_c_in_a_handler_ends_the_test() -> None:
    with testing.inline(engine), pytest.raises(KeyboardInterrupt):
        app.interrupted.enqueue()


def test_a_handler_may_skip_the_test() -> None:
    with testing.inline(engine), pytest.raises(pytest.skip.Exception):
        app.skipping.enqueue()


def test_a_job_that_has_run_can_be_waited_for() -> None:
    async def test() -> None:
        job = await add.enqueue_async(1)
        assert await job.wait_async() == 3
        assert [each.result async for each in engine.as_completed_async([job, add.enqueue(2)])] == [3, 4]

    with testing.inline(engine, raises=False):
        assert add.enqueue(1).wait() == 3
        assert engine.wait(add.enqueue(2)).result == 4
        failed = app.alarming.enqueue()
        with pytest.raises(JobFailedError):
            failed.wait()
        with pytest.raises(JobFailedError):
            engine.retry(failed.id).wait()
        third = add.enqueue(3)
        assert [job.id for job in engine.as_completed([failed, third])] == [failed.id, third.id]
        assert engine.wait_first([add.enqueue(4)]).result == 6
        asyncio.run(test())


def test_the_first_of_many_need_not_wait_for_those_that_are_held() -> None:
    async def first(*jobs: Job) -> int:
        return (await engine.wait_first_async(jobs)).id

    with testing.inline(engine):
        engine.pause_queue("bulk")
        held, free = add.options(queue="bulk").enqueue(1), add.enqueue(2)
        assert engine.wait_first([held, free, free]).id == free.id
        assert asyncio.run(first(held, free)) == free.id
        ends = engine.as_completed([held, free, free])
        assert next(ends).id == free.id
        with pytest.raises(UsageError, match="nothing in this process will end it"):
            next(ends)


def test_a_handler_waits_for_each_of_many() -> None:
    with testing.isolated(engine):
        app.as_they_end.enqueue(3)
        assert testing.drain(engine)[-1].result == [2, 3, 4]


@pytest.mark.parametrize("is_replay", [True, False])
def test_many_that_run_again_all_run_before_one_raises(is_replay: bool) -> None:
    with testing.inline(engine, raises=False):
        for _ in range(3):
            app.fragile.enqueue()
        app.is_mended.append(True)
        if is_replay:
            retried = engine.dead_letters.replay_all(everything=True)
        else:
            retried = engine.retry_all(name="fragile")
        app.is_mended.clear()
        assert (retried.count, engine.counts()[JobState.COMPLETED]) == (3, 3)
    with testing.isolated(engine):
        with testing.inline(engine, raises=False):
            app.fragile.enqueue_many([{}] * 3)
        with testing.inline(engine), pytest.raises(JobFailedError):
            engine.retry_all(name="fragile")
        assert engine.dead_letters.count() == 3
        assert len(testing.all_enqueued(engine, "fragile")) == 6


def test_a_job_runs_after_those_that_it_names() -> None:
    with testing.inline(engine) as clock:
        first = add.enqueue(1)
        assert app.gather.options(after=[first]).enqueue([first.id]).wait() == [3]
        engine.pause_queue("bulk")
        held = add.options(queue="bulk").enqueue(2)
        last = app.gather.options(after=[first, held]).enqueue([held.id])
        assert last.state is JobState.PENDING
        with pytest.raises(
            UsageError, match=r"job \d+ is pending, and nothing in this process will end it: .*wait"
        ):
            last.wait()
        engine.resume_queue("bulk")
        assert last.wait() == [4]
        assert clock is testing.clock(engine)


def test_a_store_that_is_isolated_inside_runs_inline_too() -> None:
    with testing.inline(engine):
        add.enqueue(1)
        with testing.isolated(engine) as clock:
            assert add.options(delay=60).enqueue(2).result == 4
            assert sum(engine.counts().values()) == 1
            assert testing.clock(engine) is clock
        assert sum(engine.counts().values()) == 1


def test_what_an_entry_makes_when_it_is_triggered_has_run() -> None:
    with testing.inline(engine):
        engine.crons.add("adding", "@daily", job="add", args={"a": 1})
        assert engine.crons.trigger("adding").result == 3
        assert engine.crons.trigger("adding").wait() == 3


def test_something_else_than_an_engine_is_refused() -> None:
    with pytest.raises(UsageError, match="engine: must be an Engine, not of type str"), testing.inline("x"):  # type: ignore[arg-type]
        pass

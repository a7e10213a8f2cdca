"""What was enqueued is found by name, arguments and options, and a failed assertion says what there is instead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import ANY

import pytest

from mpdispatch import UnknownJobError, UsageError, testing
from mpdispatch.model import COMMAND_JOB, NewJob
from mpdispatch.testing.plugin import IsolatedEngine
from tests.testing import app
from tests.testing.app import add, engine, render


@pytest.fixture(autouse=True)
def own_store(isolated_engine: IsolatedEngine) -> None:
    isolated_engine(engine)


def test_a_job_is_found_by_some_of_its_arguments_and_options() -> None:
    first = render.options(priority=3, delay=90, idempotency_key="k").enqueue(Path("a.pdf"), dpi=600)
    render.enqueue(Path("b.pdf"))
    found = testing.assert_enqueued(engine, "render", path=Path("a.pdf"), queue="bulk", priority=3, delay="90s")
    assert found == first
    assert testing.assert_enqueued(engine, render, dpi=600, idempotency_key="k", max_retries=2) == first
    assert testing.assert_enqueued(engine, render, count=2, path=ANY).id == first.id
    assert [job.id for job in testing.all_enqueued(engine, render)] == [1, 2]
    assert [job.id for job in testing.all_enqueued(engine, queue="bulk", state="pending")] == [2]
    testing.refute_enqueued(engine, "render", path=Path("c.pdf"))
    testing.refute_enqueued(engine, add)


def test_arguments_are_equal_as_the_handler_gets_them_or_as_json() -> None:
    render.enqueue(Path("a.pdf"), wait=timedelta(minutes=1))
    for wanted in ({"path": Path("a.pdf")}, {"path": "a.pdf"}, {"dpi": 300}, {"wait": timedelta(seconds=60)}):
        testing.assert_enqueued(engine, render, **wanted)
    testing.refute_enqueued(engine, render, dpi=301)


def test_a_dependent_is_found_by_its_parents() -> None:
    first, second = add.enqueue(1), add.enqueue(2)
    app.gather.options(after=[second, first]).enqueue([])
    testing.assert_enqueued(engine, app.gather, after=[first, second.id])
    testing.refute_enqueued(engine, app.gather, after=first)
    with pytest.raises(AssertionError, match=r"after is \[1, 2\]"):
        testing.assert_enqueued(engine, app.gather, after=second.id)
    testing.drain(engine)
    testing.assert_enqueued(engine, app.gather, after=[first, second], state="completed")
    testing.assert_enqueued(engine, add, after=[], count=2)


def test_a_time_may_be_off_by_a_second() -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    add.options(run_at=at).enqueue(1)
    testing.assert_enqueued(engine, add, run_at=at + timedelta(seconds=0.9), delay=3600)
    testing.refute_enqueued(engine, add, run_at=at + timedelta(seconds=1.1))
    testing.refute_enqueued(engine, add, delay=3605)


def test_jobs_that_have_run_count_too() -> None:
    with testing.inline(engine):
        add.enqueue(1)
    testing.assert_enqueued(engine, add, a=1, state="completed")
    testing.refute_enqueued(engine, add, state="pending")


def test_a_failed_assertion_names_each_job_of_the_handler_and_what_is_otherwise() -> None:
    render.options(delay=60).enqueue(Path("b.pdf"))
    render.options(queue="slow").enqueue(Path("a.pdf"), dpi=600)
    with pytest.raises(AssertionError) as raised:
        testing.assert_enqueued(engine, render, path=Path("a.pdf"), queue="bulk")
    assert str(raised.value) == (
        "no render(path=PosixPath('a.pdf')) with queue='bulk' was enqueued; there are:\n"
        "  job 1 render(path='b.pdf') (scheduled, queue bulk, delay 60 s): path is PosixPath('b.pdf')\n"
        "  job 2 render(path='a.pdf', dpi=600) (pending, queue slow): queue is 'slow'"
    )
    with pytest.raises(
        AssertionError, match=r"2 of render\(\) were enqueued, not 1; there are:\n.*as it should be"
    ):
        testing.assert_enqueued(engine, render, count=1)
    with pytest.raises(
        AssertionError, match=r"1 of render\(dpi=600\) were enqueued:\n  job 2 render\(path='a.pdf'"
    ):
        testing.refute_enqueued(engine, render, dpi=600)


def test_without_a_job_of_the_handler_it_names_the_others() -> None:
    with pytest.raises(AssertionError, match=r"^no add\(a=1\) was enqueued; nothing was$"):
        testing.assert_enqueued(engine, add, a=1)
    render.enqueue_many([{"path": "x"}] * 3)
    app.alarming.enqueue()
    with pytest.raises(AssertionError, match=r"^no add\(\) was enqueued; only 3 render, 1 alarming$"):
        testing.assert_enqueued(engine, add)


def test_a_long_list_and_a_long_argument_are_cut() -> None:
    render.enqueue_many({"path": "x" * 100_000} for _ in range(30))
    with pytest.raises(AssertionError, match=r"and 20 more$") as raised:
        testing.assert_enqueued(engine, render, dpi=1)
    assert len(str(raised.value)) < 5_000


def test_more_jobs_than_a_page_are_looked_at() -> None:
    add.enqueue_many({"a": number} for number in range(2500))
    assert testing.assert_enqueued(engine, add, a=3).id == 4
    assert len(testing.all_enqueued(engine, add)) == 2500


def test_a_program_is_found() -> None:
    engine.add_job(NewJob(name=COMMAND_JOB, payload=b'{"argv":["true"],"cwd":"/","env":{}}'))
    testing.assert_enqueued(engine, COMMAND_JOB, argv=["true"])
    testing.refute_enqueued(engine, COMMAND_JOB, argv=["false"])


@pytest.mark.parametrize("check", [testing.assert_enqueued, testing.refute_enqueued, testing.all_enqueued])
@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("render", {"pth": "a"}, "pth: is no argument of this job; did you mean path"),
        ("render", {"args": {}, "ququ": "a"}, "ququ: no such option; did you mean queue"),
        ("render", {"delay": "soon"}, "delay: must be a duration"),
        ("render", {"run_at": datetime(2026, 1, 1)}, "run_at: must be an aware datetime"),
        ("render", {"state": "done"}, "state: must be one of scheduled, pending"),
        ("render", {"after": "all"}, "after: must be a Job"),
        ("move", {"queue": "a"}, "queue: is an option of a job, and an argument of this handler"),
    ],
)
def test_a_check_that_would_say_nothing_is_refused(
    check: object, name: str, keywords: object, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        check(engine, name, **keywords)  # type: ignore[operator]


def test_a_handler_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UnknownJobError, match=r"no handler 'rendr'.*did you mean 'render'"):
        testing.refute_enqueued(engine, "rendr")
    with pytest.raises(UsageError, match="job: must be the name of a handler"):
        testing.refute_enqueued(engine, 3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="count: must be a whole number from 1, not 0"):
        testing.assert_enqueued(engine, "add", count=0)
    with pytest.raises(UsageError, match="a: say the job"):
        testing.all_enqueued(engine, a=1)


def test_an_argument_with_the_name_of_an_option_goes_in_args() -> None:
    app.move.options(queue="bulk").enqueue(queue="a")
    testing.assert_enqueued(engine, app.move, args={"queue": "a"}, queue="bulk")
    testing.refute_enqueued(engine, app.move, args={"queue": "bulk"})

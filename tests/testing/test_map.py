"""A map in a test runs its jobs in the test's process, and starts no supervisor."""

from __future__ import annotations

import threading

import pytest

from mpdispatch import JobFailedError, testing
from tests.testing import app
from tests.testing.app import add, engine, picky


@pytest.fixture(autouse=True)
def no_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    def start() -> None:
        raise AssertionError("a supervisor was started")

    monkeypatch.setattr(engine.dispatcher, "start", start)


@pytest.mark.parametrize("ordered", [True, False])
def test_results_are_given_and_a_name_finds_them_again(ordered: bool) -> None:
    with testing.inline(engine):
        assert list(engine.map(add, range(50), ordered=ordered, window=8, name="sums")) == list(range(2, 52))
        ran = len(app.log)
        assert list(engine.map(add, range(50), name="sums")) == list(range(2, 52))
        assert len(app.log) == ran


def test_jobs_that_wait_run_when_their_results_are_asked_for() -> None:
    with testing.inline(engine) as clock:
        before = clock.time
        assert list(engine.map(add.options(delay="1h"), range(3))) == [2, 3, 4]
        assert 3600 <= (clock.time - before).total_seconds() < 3700


def test_a_failure_stands_at_its_place_unless_it_raises_where_it_is_enqueued() -> None:
    with testing.inline(engine, raises=False):
        results = engine.map(picky, [1, -1, 3])
        assert next(results) == 1
        with pytest.raises(JobFailedError):
            next(results)
        assert list(results) == [3]
    with testing.inline(engine), pytest.raises(JobFailedError):
        next(engine.map(picky, [1, -1, 3]))


def test_a_handler_maps() -> None:
    threads = threading.active_count()
    with testing.isolated(engine):
        app.mapping.enqueue(3)
        assert testing.drain(engine)[-1].result == [2, 3, 4]
    assert threading.active_count() <= threads + 1  # the one of hooks

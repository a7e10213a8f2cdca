"""Help for the tests of an app: its jobs run in the test's own process, on a store and a clock of the test.

    # tests/conftest.py: every test has a store of its own, in memory
    @pytest.fixture(autouse=True)
    def jobs(isolated_engine):                     # a fixture that mpdispatch brings
        return isolated_engine(tasks.engine)

    # tests/test_orders.py
    def test_an_order_enqueues_its_confirmation():
        place_order(7)                             # the code under test calls confirm.enqueue(7)
        testing.assert_enqueued(tasks.engine, "confirm", order=7, delay="5m")
        assert testing.drain(tasks.engine) == []   # it is not due yet
        (job,) = testing.drain(tasks.engine, advance="5m")
        assert job.result == "order 7 is confirmed"

    def test_a_confirmation_is_sent_again():
        with testing.inline(tasks.engine):         # an enqueue runs its job at once, retries included
            assert tasks.confirm.enqueue(8).attempt == 2

    def test_the_handler_alone():
        with testing.job_context(attempt=2) as job:
            tasks.confirm(9)
        assert job.logged == ["sent again"]

What there is:

    isolated            a block in which an engine has a store and a clock of its own
    clock, FakeClock    the clock of that store: advance("1h")
    inline              a block in which an enqueue runs its job, and gives it as it ended
    drain               runs what is due, with advance="1h" what becomes due, with crons=True what schedules make
    assert_enqueued, refute_enqueued, all_enqueued   what was enqueued
    job_context, RecordedJob   call a handler directly; what it reported
    isolated_engine     the pytest fixture: `isolated`, until the end of the test

Nothing here starts a process: a handler that a timeout does not interrupt goes on, and what it does to the process stays.
Limits of queues do not count, as jobs run one after the other.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpdispatch.testing.assertions import all_enqueued, assert_enqueued, refute_enqueued
    from mpdispatch.testing.fake_clock import FakeClock
    from mpdispatch.testing.here import drain, inline
    from mpdispatch.testing.isolation import clock, isolated
    from mpdispatch.testing.recorded_job import RecordedJob, job_context

__all__ = [
    "FakeClock",
    "RecordedJob",
    "all_enqueued",
    "assert_enqueued",
    "clock",
    "drain",
    "inline",
    "isolated",
    "job_context",
    "refute_enqueued",
]

_HOMES = {
    **dict.fromkeys(("all_enqueued", "assert_enqueued", "refute_enqueued"), "assertions"),
    "FakeClock": "fake_clock",
    **dict.fromkeys(("drain", "inline"), "here"),
    **dict.fromkeys(("clock", "isolated"), "isolation"),
    **dict.fromkeys(("RecordedJob", "job_context"), "recorded_job"),
}

if not TYPE_CHECKING:  # or a type checker would believe that this module has any name

    def __getattr__(name: str) -> Any:
        """Load a public name (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

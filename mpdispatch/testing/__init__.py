"""Help for the tests of an app: its jobs run in the test's own process, on a store and a clock of the test.

    # shop.py
    from mpdispatch import Engine, current_job

    engine = Engine.open("shop.db")

    @engine.job
    def confirm(order: int) -> str:
        if current_job().attempt == 1:
            raise ConnectionError("the mail server is away")
        current_job().log(f"sent for order {order}")
        return f"order {order} is confirmed"

    def place_order(number: int) -> None:
        confirm.options(delay="5m").enqueue(number)

    # conftest.py
    import pytest
    import shop

    @pytest.fixture(autouse=True)                # every test has an empty store of its own, in memory
    def jobs(isolated_engine):                   # a fixture that mpdispatch brings
        return isolated_engine(shop.engine)

    # test_shop.py
    import pytest
    import shop
    from mpdispatch import JobFailedError, testing

    def test_an_order_is_confirmed_later():
        shop.place_order(7)
        testing.assert_enqueued(shop.engine, "confirm", order=7, delay="5m")
        assert testing.drain(shop.engine) == []                        # nothing is due yet
        (job,) = testing.drain(shop.engine, advance="10m")             # its retry included
        assert job.result == "order 7 is confirmed"

    def test_a_confirmation_is_tried_again():
        with testing.inline(shop.engine):                              # an enqueue runs its job at once
            assert shop.confirm.enqueue(8).attempt == 2
            with pytest.raises(JobFailedError, match="mail server"):
                shop.confirm.options(max_retries=0).enqueue(9)

    def test_the_handler_alone():
        with testing.job_context(attempt=2) as job:
            assert shop.confirm(9) == "order 9 is confirmed"
        assert job.logged == ["sent for order 9"]

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
    from mpdispatch.testing.in_process import drain, inline
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
    **dict.fromkeys(("drain", "inline"), "in_process"),
    **dict.fromkeys(("clock", "isolated"), "isolation"),
    **dict.fromkeys(("RecordedJob", "job_context"), "recorded_job"),
}

if not TYPE_CHECKING:  # or a type checker would believe that this module has any name

    def __getattr__(name: str) -> Any:
        """Load a public name (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

    def __dir__() -> list[str]:
        """What `help` shows and a shell completes."""
        return sorted({*globals(), *__all__})

"""A line that a lasting condition repeats is said once, then counted."""

from __future__ import annotations

import logging

import pytest

from mpdispatch.repeated import Repeated
from tests.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def repeated(clock: FakeClock) -> Repeated:
    return Repeated(logging.getLogger("tests.repeated"), clock)


def _said(caplog: pytest.LogCaptureFixture) -> list[str]:
    said = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return said


def test_the_first_is_said_and_the_others_are_counted_once_a_minute(
    repeated: Repeated, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(600):
        repeated.log("full", logging.ERROR, "no room for %d", number, extra={"number": number})
        repeated.look()
        clock.advance(0.2)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["no room for 0", "no room for 299 (299 more of these in 60 s)"]
    assert [record.__dict__["number"] for record in caplog.records] == [0, 299]
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def test_its_end_is_told_with_how_often_it_was(
    repeated: Repeated, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        repeated.log("full", logging.ERROR, "full")
        clock.advance(1)
    repeated.over("full")
    repeated.over("full")
    assert _said(caplog) == ["full", "full (4 more of these in 5 s)"]
    repeated.log("full", logging.ERROR, "full")
    assert _said(caplog) == ["full"], "a new one is said at once"


def test_what_was_said_once_only_ends_without_a_word_and_is_said_again_after_a_minute(
    repeated: Repeated, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    repeated.log("full", logging.ERROR, "full")
    assert repeated.next_due() == clock.now().boot_us + 60_000_000
    clock.advance(60)
    repeated.look()
    assert repeated.next_due() is None
    repeated.log("full", logging.ERROR, "full")
    assert _said(caplog) == ["full", "full"]


def test_conditions_are_told_apart_by_their_key(repeated: Repeated, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        repeated.log(("spawn", 11), logging.WARNING, "no process left")
        repeated.log(("spawn", 24), logging.WARNING, "no descriptor left", count=7)
    assert _said(caplog) == ["no process left", "no descriptor left"]
    repeated.close()
    assert _said(caplog) == [
        "no process left (2 more of these in 1 s)",
        "no descriptor left (14 more of these in 1 s)",
    ]


def test_so_many_may_be_said_in_full(repeated: Repeated, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(4):
        repeated.log("boot", logging.ERROR, "%d", number, in_full=2)
    assert _said(caplog) == ["0", "1"]


def test_thousands_of_conditions_take_no_more_memory_than_a_hundred(
    repeated: Repeated, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(5000):
        repeated.log(number, logging.ERROR, "%d", number)
    _said(caplog)
    repeated.log(4999, logging.ERROR, "a hundred keys are remembered")
    repeated.log(0, logging.ERROR, "the older ones are not")
    assert _said(caplog) == ["the older ones are not"]

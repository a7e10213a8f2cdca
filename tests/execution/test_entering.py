"""Signals that strike while a `with` is entered."""

from __future__ import annotations

import signal
import sys
import time
from functools import partial
from types import FrameType

import pytest

from mpdispatch.execution.entering import postponed


class Struck(Exception):
    pass


@pytest.mark.skipif(sys.version_info < (3, 14), reason="no signal strikes there before Python 3.14")
def test_an_interrupt_while_a_with_is_entered_strikes_in_its_body_and_it_is_left() -> None:
    left: list[type[BaseException] | None] = []

    class Gate:
        __enter__ = staticmethod(partial(signal.raise_signal, signal.SIGUSR1))

        def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
            left.append(kind)

    def strike(number: int, frame: FrameType | None) -> None:
        if not postponed(number, frame):
            raise Struck

    old = signal.signal(signal.SIGUSR1, strike)
    try:
        with pytest.raises(Struck), Gate():
            time.sleep(60)
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert left == [Struck]


def test_an_interrupt_anywhere_else_is_not_postponed() -> None:
    seen: list[bool] = []
    old = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(postponed(number, frame)))
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert seen == [False]

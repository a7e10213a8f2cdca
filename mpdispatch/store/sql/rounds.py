"""Work on many rows in small steps: a generator makes them, and the caller runs them when it likes.

    Round.run ─▶ a step: a read or a short transaction ─▶ its result ─▶ the generator ─▶ the next step …

So a supervisor runs a few between its commits, and a client runs all of them; each step that failed is run again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar, cast

from mpdispatch.clock import sleep
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.sessions import ClientSessions

T = TypeVar("T")

_PAUSE_S = 0.005
"""Longest pause between two steps."""


class Step(NamedTuple):
    """One read, or one write transaction."""

    work: Callable[[Connection], Any]
    is_write: bool


def read_step(query: str, values: Mapping[str, Any]) -> Step:
    """A step that gives the rows of a query."""
    return Step(lambda c: c.execute(QUERIES[query], values).fetchall(), is_write=False)


Steps = Generator[Step, Any, T]
"""Steps, each of which is asked for once the result of the one before is known; then what all of them come to."""


class Round(Generic[T]):
    """Runs the steps of one generator, some at a time. One thread."""

    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps
        self.result: T | None = None
        """What the steps come to, once they are done."""
        self._next: Step | None = None
        self._go_on(None)

    @property
    def is_done(self) -> bool:
        return self._next is None

    def run(self, run: Callable[[Step], Any], for_s: float) -> None:
        """Run steps for this long, at most up to one that writes. A step that raises is the next one again."""
        until = time.monotonic() + for_s
        while (step := self._next) is not None:
            self._go_on(run(step))
            if step.is_write or time.monotonic() >= until:
                break

    def _go_on(self, result: Any) -> None:
        try:
            self._next = self._steps.send(result)
        except StopIteration as ended:
            self._next, self.result = None, ended.value


def run(sessions: ClientSessions, steps: Steps[T], point: str, *, shares: bool = False) -> T:
    """Run all of these steps; gives what they come to. `shares`: others get half of the time to write."""

    def step(step: Step) -> Any:
        if not step.is_write:
            return sessions.read(step.work)
        began = time.monotonic()
        result = sessions.write(step.work, point)
        if shares:  # a drain beside this goes on at half its rate instead of a fifth
            sleep(min(time.monotonic() - began, _PAUSE_S))
        return result

    found = Round(steps)
    while not found.is_done:
        found.run(step, for_s=0)
    return cast(T, found.result)

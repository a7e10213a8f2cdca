"""Waits for jobs to end: on wake-ups where the store has them, else by polling. Blocks; see `loop_watch` for async code."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Collection, Iterator
from types import TracebackType
from typing import Self, TypeVar

from mpdispatch.clock import sleep
from mpdispatch.errors import JobNotFoundError, WaitTimeoutError
from mpdispatch.model import JobState
from mpdispatch.store.contract import Store
from mpdispatch.store.optional import WakeListener

T = TypeVar("T")
WhyNotEnded = Callable[[int], str]

NET_S = 1.0
"""Seconds between two looks without a wake-up, where there are wake-ups: one may be lost."""
_FIRST_PAUSE_S, _LAST_PAUSE_S, _GROWTH = 0.002, 0.010, 1.3
_LOOKS_PART = 4
"""After a look, the least pause is this many times as long as the look took."""


class Pace:
    """How soon to look again: at once after a quiet time, then often, for short jobs, and at last 100 times a second."""

    def __init__(self) -> None:
        self._pause_s, self._cost_s, self._looks_at_s = _FIRST_PAUSE_S, 0.0, float("-inf")

    def rest_s(self) -> float:
        """Seconds to pause before the next look. The caller takes that look: it counts from here on."""
        now_s = time.monotonic()
        least_s = _LOOKS_PART * self._cost_s
        if now_s - self._looks_at_s > 2 * max(_LAST_PAUSE_S, least_s):
            self._pause_s, self._looks_at_s = _FIRST_PAUSE_S, now_s
            return 0.0
        rest_s = max(0.0, self._looks_at_s + max(self._pause_s, least_s) - now_s)
        self._pause_s = min(self._pause_s * _GROWTH, _LAST_PAUSE_S)
        self._looks_at_s = now_s + rest_s
        return rest_s

    def looked(self, began_s: float) -> None:
        """A look that began then (monotonic) is done. The longer it took, the longer is the next pause."""
        self._cost_s = time.monotonic() - began_s


class EndWatch:
    """Where one thread waits for jobs of a store to end. A context: it holds a listener."""

    def __init__(self, store: Store) -> None:
        self._store, self._pace = store, Pace()
        self._listener: WakeListener | None = None
        self._poll = select.poll()
        self._listen()

    def _listen(self) -> None:
        wake_ups = self._store.wake_ups
        self._listener = None if wake_ups is None else wake_ups.listen_for_ends()
        if self._listener is not None:
            self._poll.register(self._listener.fileno(), select.POLLIN)

    def look(self, read: Callable[[], T]) -> T:
        """What `read` gives. The longer it takes, the longer is the next pause."""
        began_s = time.monotonic()
        try:
            return read()
        finally:
            self._pace.looked(began_s)

    def pause(self, most_s: float) -> None:
        """Returns when jobs may have ended, at the latest after `most_s` seconds."""
        until_s = time.monotonic() + most_s
        if self._listener is not None and not self._poll.poll(1000 * min(NET_S, most_s)):
            if not self._listener.is_in_place():
                self.close()
                self._listen()
            return
        sleep(min(self._pace.rest_s(), until_s - time.monotonic()))
        if self._listener is not None:
            self._listener.drain()

    def close(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            self._poll.unregister(listener.fileno())
            listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Deadline:
    """When a wait ends. `timeout_s=None`: never."""

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._until_s = None if timeout_s is None else time.monotonic() + timeout_s

    def left_s(self) -> float:
        return float("inf") if self._until_s is None else self._until_s - time.monotonic()

    def passed(self, job_id: int, state: JobState, why: str, others: int = 0) -> WaitTimeoutError:
        """The error for this job, and for the number of others that have not ended either."""
        return WaitTimeoutError(job_id, self._timeout_s or 0.0, state, why, others=others)


def wait_for_end(store: Store, job_id: int, timeout_s: float | None, why: WhyNotEnded) -> JobState:
    """The terminal state of the job, once it has one.

    Raises:
        WaitTimeoutError: it has none after `timeout_s` seconds; `why(job_id)` says the reason.
        JobNotFoundError: there is no such job (any more).
    """
    deadline = Deadline(timeout_s)
    if (state := store.state_of(job_id)).is_terminal:
        return state
    with EndWatch(store) as watch:
        # Again, now that an end cannot be missed.
        while not (state := watch.look(lambda: store.state_of(job_id))).is_terminal:
            if (left_s := deadline.left_s()) <= 0:
                raise deadline.passed(job_id, state, why(job_id))
            watch.pause(left_s)
    return state


def wait_until(store: Store, read: Callable[[], T | None], timeout_s: float | None) -> T:
    """What `read` gives, once it gives something. It is called whenever jobs of the store have ended.

    Raises TimeoutError: it gave nothing for `timeout_s` seconds; and what `read` raises.
    """
    deadline = Deadline(timeout_s)
    if (found := read()) is not None:
        return found
    with EndWatch(store) as watch:
        while (found := watch.look(read)) is None:
            if (left_s := deadline.left_s()) <= 0:
                raise TimeoutError
            watch.pause(left_s)
    return found


def ends_of(store: Store, job_ids: Collection[int], timeout_s: float | None, why: WhyNotEnded) -> Iterator[int]:
    """The ids of these jobs, each as its job has ended. Those that have ended meanwhile come in the order given.

    Raises as `wait_for_end`; a timeout names the first of those that are left.
    """
    deadline, left = Deadline(timeout_s), dict.fromkeys(job_ids)
    yield from taken(left, store.ended(left))
    if not left:
        return
    with EndWatch(store) as watch:
        while True:
            yield from taken(left, watch.look(lambda: store.ended(left)))
            if not left:
                return
            if (left_s := deadline.left_s()) <= 0:
                first = next(iter(left))
                raise deadline.passed(first, store.state_of(first), why(first), len(left) - 1)
            watch.pause(left_s)


def taken(left: dict[int, None], found: dict[int, JobState | None]) -> Iterator[int]:
    """Those that were found, in the order of `left`, from which each is removed. Raises JobNotFoundError."""
    for job_id in [each for each in left if each in found] if found else ():
        if found[job_id] is None:
            raise JobNotFoundError(job_id)
        del left[job_id]
        yield job_id

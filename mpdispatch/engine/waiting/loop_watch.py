"""Waits for jobs to end from async code. All that wait on an event loop share one listener and one look at the store.

Looks run on the threads of `offload`, one at a time. There is no task, so a loop that is closed leaves none behind.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from concurrent.futures import Future as Call
from itertools import chain
from typing import Any, TypeVar

from mpdispatch.engine.offload import offload_read, read_then
from mpdispatch.engine.waiting.blocking import NET_S, Deadline, Pace, WhyNotEnded, taken
from mpdispatch.errors import JobNotFoundError
from mpdispatch.model import JobState
from mpdispatch.store.contract import Store
from mpdispatch.store.optional import WakeListener

T = TypeVar("T")
Found = dict[int, JobState | None]
Ask = Callable[[], Any]
"""What a waiter reads at each look; None: it goes on waiting."""
_Waiter = asyncio.Future[Any]

_watches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, _Watch]] = weakref.WeakKeyDictionary()
"""Of each event loop, by the identity of the store, while somebody waits."""


async def wait_for_end_async(store: Store, job_id: int, timeout_s: float | None, why: WhyNotEnded) -> JobState:
    """As `wait_for_end`, from async code."""
    deadline = Deadline(timeout_s)
    if (state := await offload_read(store.state_of, job_id)).is_terminal:
        return state
    try:
        found = (await _some_of(store, (job_id,), deadline))[job_id]
    except TimeoutError:
        state = await offload_read(store.state_of, job_id)
        if state.is_terminal:
            return state
        raise deadline.passed(job_id, state, await offload_read(why, job_id)) from None
    if found is None:
        raise JobNotFoundError(job_id)
    return found


async def ends_of_async(
    store: Store, job_ids: Collection[int], timeout_s: float | None, why: WhyNotEnded
) -> AsyncGenerator[int, None]:
    """As `ends_of`, from async code."""
    deadline, left = Deadline(timeout_s), dict.fromkeys(job_ids)
    found = await offload_read(store.ended, left)
    while left:
        for job_id in taken(left, found):
            yield job_id
        if not left:
            return
        try:
            found = await _some_of(store, left, deadline)
        except TimeoutError:
            first = next(iter(left))
            state = await offload_read(store.state_of, first)
            raise deadline.passed(first, state, await offload_read(why, first), len(left) - 1) from None


async def wait_until_async(store: Store, read: Callable[[], T | None], timeout_s: float | None) -> T:
    """As `wait_until`, from async code; `read` is called on another thread."""
    deadline = Deadline(timeout_s)
    if (first := await offload_read(read)) is not None:
        return first
    try:
        found: T = await _asked(store, read, deadline)
    except TimeoutError:
        if (last := await offload_read(read)) is None:
            raise
        return last
    return found


async def _some_of(store: Store, job_ids: Collection[int], deadline: Deadline) -> Found:
    """Those of the jobs that have ended or are not there, as soon as there is one. Raises TimeoutError, StoreError."""
    found: Found = await _asked(store, job_ids, deadline)
    return found


async def _asked(store: Store, ask: Collection[int] | Ask, deadline: Deadline) -> Any:
    loop = asyncio.get_running_loop()
    watches = _watches.setdefault(loop, {})
    watch = watches.get(id(store))
    if watch is None:
        watch = watches[id(store)] = _Watch(store, loop)
    waiter = watch.join(ask)
    try:
        left_s = deadline.left_s()
        async with asyncio.timeout(None if left_s == float("inf") else left_s):
            return await waiter
    finally:
        if watch.leave(waiter) and watches.get(id(store)) is watch:
            del watches[id(store)]


class _Watch:
    """All that wait on one event loop for jobs of one store. Only that loop's thread calls it."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        self._store, self._loop, self._pace = store, loop, Pace()
        self._waiters: dict[_Waiter, Collection[int] | Ask] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = self._is_looking = self._hears = False
        """Whether a look is due soon; whether one is being taken; whether the loop reads the listener."""
        self._began_s = 0.0
        self._listener: WakeListener | None = None
        self._listen()

    def _listen(self) -> None:
        wake_ups = self._store.wake_ups
        self._listener, self._hears = None if wake_ups is None else wake_ups.listen_for_ends(), False

    def join(self, ask: Collection[int] | Ask) -> _Waiter:
        """A future of what is asked for: those of these jobs that have ended, or what the function reads."""
        waiter: _Waiter = self._loop.create_future()
        self._waiters[waiter] = ask
        self._look_soon()
        return waiter

    def leave(self, waiter: _Waiter) -> bool:
        """Whether nobody waits any more; then this watch is over."""
        self._waiters.pop(waiter, None)
        if self._waiters:
            return False
        if self._timer is not None:
            self._timer.cancel()
        self._close()
        return True

    def _close(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            self._loop.remove_reader(listener.fileno())
            listener.close()

    def _look_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            if not self._is_looking:
                self._look_after(self._pace.rest_s())

    def _look_after(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._look)

    def _hear(self) -> None:
        """The listener has something. It is not read before the next look, and not looked at until then."""
        if self._listener is not None:
            self._loop.remove_reader(self._listener.fileno())
        self._hears = False
        self._look_soon()

    def _look(self) -> None:
        if self._listener is not None and not self._is_due and not self._listener.is_in_place():
            self._close()
            self._listen()
        self._is_due, self._is_looking = False, True
        if self._listener is not None:
            self._listener.drain()
            if not self._hears:
                self._hears = True
                self._loop.add_reader(self._listener.fileno(), self._hear)
        self._began_s = time.monotonic()
        read_then(self._loop, self._looked, _answers, self._store, list(self._waiters.items()))

    def _looked(self, call: Call[list[Answer]]) -> None:
        self._is_looking = False
        self._pace.looked(self._began_s)
        for waiter, value, error in call.result():
            # No look may read any more what it asks for: its owner goes on to change that.
            if self._waiters.pop(waiter, None) is None or waiter.done():
                continue
            if error is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(value)
        if not self._waiters:
            self._is_due = False  # who comes now asks for a look
        else:
            self._look_after(self._pace.rest_s() if self._is_due or self._listener is None else NET_S)


Answer = tuple[_Waiter, Any, Exception | None]


def _answers(store: Store, asked: list[tuple[_Waiter, Collection[int] | Ask]]) -> list[Answer]:
    """The answers there are by now. Never raises. Runs on another thread."""
    answers, by_id = list[Answer](), list[tuple[_Waiter, Collection[int]]]()
    for waiter, ask in asked:
        if not callable(ask):
            by_id.append((waiter, ask))
            continue
        try:
            if (value := ask()) is not None:
                answers.append((waiter, value, None))
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            answers.append((waiter, None, error))
    if by_id:
        answers += _ends(store, by_id)
    return answers


def _ends(store: Store, asked: list[tuple[_Waiter, Collection[int]]]) -> Iterator[Answer]:
    """For those that wait for jobs: one read for all of them."""
    try:
        found = store.ended(set(chain.from_iterable(job_ids for _, job_ids in asked)))
    except Exception as error:  # noqa: BLE001 - as above
        yield from ((waiter, None, error) for waiter, _ in asked)
        return
    for waiter, job_ids in asked if found else ():
        if theirs := {job_id: found[job_id] for job_id in job_ids if job_id in found}:
            yield waiter, theirs, None

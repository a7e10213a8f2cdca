"""Makes calls that may wait for the disk or a lock from async code, without blocking the event loop.

The calls run on a few threads of our own, not on the loop's: a store that is busy for seconds must not use up the
threads of the application's `asyncio.to_thread` calls. Each thread keeps its connection to a store's file. Calls that
have no thread yet wait on the event loop, in order; ten thousand of them cost ten thousand small futures.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from mpdispatch.errors import StoreBusy
from mpdispatch.execution.job_context import OWN_THREADS

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from concurrent.futures import Future as Call
    from concurrent.futures import ThreadPoolExecutor

P = ParamSpec("P")
R = TypeVar("R")

_THREADS = {"read": 2, "write": 4}
_PATIENCE_S = 30.0
"""The same time for which a call waits for a busy store."""
_NEARLY_S = 1.0

_lock = threading.Lock()
_pools: dict[str, ThreadPoolExecutor] = {}
_lines: weakref.WeakKeyDictionary[AbstractEventLoop, _Line] = weakref.WeakKeyDictionary()


class StandstillError(Exception):
    """A call waited in line for 30 s, and no other call got through meanwhile."""


async def offload_read(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """As `offload`, for calls that only read. They do not wait in line behind writers that wait for a lock."""
    import asyncio

    call = functools.partial(function, *args, **kwargs)
    run = contextvars.copy_context().run
    return await asyncio.get_running_loop().run_in_executor(_threads("read"), run, call)


def read_then(
    loop: AbstractEventLoop,
    then: Callable[[Call[R]], object],
    function: Callable[P, R],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> None:
    """As `offload_read`, for code that does not await it: the event loop calls `then` with the done call."""

    def hand_over(call: Call[R]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits
            loop.call_soon_threadsafe(then, call)

    _threads("read").submit(function, *args, **kwargs).add_done_callback(hand_over)


async def offload(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call the function on another thread, with the context variables of the caller; gives its result.

    At most four calls run at once; the others wait for their turn. If the caller is cancelled, a waiting call is never
    made, and a running one goes on to its end.

    Raises StandstillError: its turn did not come for 30 s, in which no call of this event loop got through.
    """
    # Imported here: workers import this module, and most need no asyncio. Async code has it loaded.
    import asyncio

    loop = asyncio.get_running_loop()
    line = _lines.get(loop)
    if line is None:
        line = _lines[loop] = _Line(_THREADS["write"])
    await line.enter(loop)
    try:
        call = functools.partial(function, *args, **kwargs)
        made = _threads("write").submit(contextvars.copy_context().run, call)
    except BaseException:
        line.leave()
        raise
    made.add_done_callback(functools.partial(_ended, loop, line))
    return await asyncio.wrap_future(made, loop=loop)


def _ended(loop: AbstractEventLoop, line: _Line, call: Call[Any]) -> None:
    """Runs on the thread of the call."""
    is_busy = not call.cancelled() and isinstance(call.exception(), StoreBusy)
    with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits
        loop.call_soon_threadsafe(functools.partial(line.leave, is_busy=is_busy))


class _Line:
    """The callers of one event loop that wait for a thread, in order."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: OrderedDict[Future[None], float] = OrderedDict()
        self._served_s = time.monotonic()

    async def enter(self, loop: AbstractEventLoop) -> None:
        """Returns when it is the caller's turn; the caller must `leave` afterwards. Raises StandstillError."""
        if self._free > 0:
            self._free -= 1
            return
        waiter: Future[None] = loop.create_future()
        self._waiting[waiter] = time.monotonic()
        timer = loop.call_later(_PATIENCE_S, self._look_at, waiter, loop)
        try:
            await waiter
        except BaseException:
            # Cancelled at the very moment when its turn came: hand the turn to the next.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.leave()
            raise
        finally:
            self._waiting.pop(waiter, None)
            timer.cancel()

    def leave(self, *, is_busy: bool = False) -> None:
        """Hand the turn to the next caller. `is_busy`: the call ended because the store was busy for 30 s."""
        now_s = time.monotonic()
        if not is_busy:
            self._served_s = now_s
        while self._waiting:
            waiter, since_s = self._waiting.popitem(last=False)
            if waiter.done():
                continue
            if is_busy and now_s - since_s > _PATIENCE_S - _NEARLY_S:
                waiter.set_exception(StandstillError())  # It would wait just as long again.
                continue
            waiter.set_result(None)
            return
        self._free += 1

    def _look_at(self, waiter: Future[None], loop: AbstractEventLoop) -> None:
        """Give up a waiter whose time is over, unless other calls get through: then its turn will come."""
        since_s = self._waiting.get(waiter)
        if since_s is None or waiter.done():
            return
        left_s = max(since_s, self._served_s) + _PATIENCE_S - time.monotonic()
        if left_s > 0:
            loop.call_later(left_s, self._look_at, waiter, loop)
        else:
            waiter.set_exception(StandstillError())


def _threads(kind: str) -> ThreadPoolExecutor:
    with _lock:
        if kind not in _pools:
            from concurrent.futures import ThreadPoolExecutor

            _pools[kind] = ThreadPoolExecutor(_THREADS[kind], thread_name_prefix=OWN_THREADS)
        return _pools[kind]


def _forget() -> None:
    """In a forked child: the threads do not exist there, and one of them may have held the lock."""
    global _lock
    _lock = threading.Lock()
    _pools.clear()
    _lines.clear()


os.register_at_fork(after_in_child=_forget)

"""Runs `async def` handlers on the event loop of this worker. There is one loop, and it is kept between jobs.

    executor ─▶ call(function, **arguments) ─▶ function(…) is awaitable ─▶ run until it is done ─▶ clear up
                                       signal ─▶ interrupt(error) ─▶ task.cancel() ─▶ CancelledError inside

While the loop runs, an interrupt does not raise, because asyncio would catch it in whichever callback was running. It
cancels the job's task; the CancelledError that comes back is turned into the interrupt again. The first such job imports
asyncio, so that a worker without async handlers neither waits for it nor keeps it in memory.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from mpdispatch.errors import JobInterrupt

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

_LEFTOVERS_S = 1.0
"""How long tasks and threads that a handler left running may take to end."""
_THREAD_PREFIX = "mpdispatch-loop"
_numbers = itertools.count(1)

_log = logging.getLogger("mpdispatch.job")

_Begin: TypeAlias = Callable[[], Awaitable[Any]]


class _Driven:
    """The awaitable that is running, and the interrupt requested for it."""

    __slots__ = ("_is_delivered", "_loop", "asked", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_delivered = False
        self.task: asyncio.Task[Any] | None = None
        self.asked: JobInterrupt | None = None

    async def settle(self, begin: _Begin) -> tuple[Any, BaseException | None]:
        """Begin and await it. Returns what it raises: SystemExit and the like would stop the loop midway."""
        import asyncio

        self.task = asyncio.current_task()
        if self.asked is not None:
            return None, self.asked
        try:
            return await begin(), None
        except BaseException as error:  # noqa: BLE001 - handed to the caller, who raises it outside of the loop
            return None, error

    def interrupt(self, error: JobInterrupt) -> None:
        """Called from a signal handler, at any instruction of the loop's thread."""
        self.asked = error
        if self.task is not None and not self._is_delivered:
            self._is_delivered = True
            # Not task.cancel() here: the task may be in the middle of a step. This also wakes the selector.
            self._loop.call_soon_threadsafe(self.task.cancel)


class _Runner:
    """An event loop that is kept between jobs, its threads, and the socket pair by which signals wake it."""

    def __init__(self) -> None:
        import asyncio

        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self._wakeup_receiver, self._wakeup_sender = socket.socketpair()
        for end in (self._wakeup_receiver, self._wakeup_sender):
            end.setblocking(False)
        self.loop.add_reader(self._wakeup_receiver.fileno(), self._drain)
        self._executor: ThreadPoolExecutor | None = None
        self._thread_prefix = f"{_THREAD_PREFIX}-{next(_numbers)}"

    def _drain(self) -> None:
        try:
            while self._wakeup_receiver.recv(4096):
                pass
        except BlockingIOError:
            return

    def run(self, driven: _Driven, begin: _Begin) -> tuple[Any, BaseException | None]:
        if self._executor is None:
            from concurrent.futures import ThreadPoolExecutor

            # Our own, because a loop's default executor can be shut down only once.
            self._executor = ThreadPoolExecutor(thread_name_prefix=self._thread_prefix)
            self.loop.set_default_executor(self._executor)
        if threading.current_thread() is not threading.main_thread():
            return self.loop.run_until_complete(driven.settle(begin))
        # Without it, a signal that comes just before the selector sleeps would wait until something else wakes the loop.
        before = signal.set_wakeup_fd(self._wakeup_sender.fileno(), warn_on_full_buffer=False)
        try:
            return self.loop.run_until_complete(driven.settle(begin))
        finally:
            signal.set_wakeup_fd(before)

    def clear(self) -> list[str]:
        """End tasks and threads that a handler left; gives the names of those that do not end."""
        until_s = time.monotonic() + _LEFTOVERS_S
        return [*self._end_tasks(until_s), *self._end_threads(until_s)]

    def _end_tasks(self, until_s: float) -> list[str]:
        import asyncio

        left = asyncio.all_tasks(self.loop)
        if not left:
            return []
        names = ", ".join(sorted(map(_name_of, left))[:10])
        _log.warning("cancelled %d tasks that a handler left running: %s", len(left), names)
        seen: set[asyncio.Task[Any]] = set()
        while left and (left_s := until_s - time.monotonic()) > 0:
            for task in left - seen:
                task.cancel()
            seen |= left
            try:
                self.loop.run_until_complete(asyncio.wait(left, timeout=left_s))
            except BaseException as error:  # noqa: BLE001 - SystemExit in a task stops the loop; the others go on
                _log.warning("a task that was left running raised %r when it was cancelled", error)
            left = asyncio.all_tasks(self.loop)
        return sorted(map(_name_of, left))

    def _end_threads(self, until_s: float) -> list[str]:
        threads = [each for each in threading.enumerate() if each.name.startswith(f"{self._thread_prefix}_")]
        if not threads or self._executor is None:
            return []
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = None
        for thread in threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        return [thread.name for thread in threads if thread.is_alive()]

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=False)
        if self.pid == os.getpid():
            self.loop.remove_reader(self._wakeup_receiver.fileno())
            self.loop.close()
        self._wakeup_receiver.close()
        self._wakeup_sender.close()


def _name_of(task: asyncio.Task[Any]) -> str:
    return f"{task.get_name()} ({getattr(task.get_coro(), '__qualname__', '?')})"


_runner: _Runner | None = None
_driven: _Driven | None = None
_reasons: list[str] = []


def call(function: Callable[..., Any], /, **arguments: Any) -> Any:
    """The result of the function; of an awaitable, the result of running it to its end.

    Raises what the function raises, and after an `interrupt` JobTimeout or JobCancelled instead of CancelledError.
    """
    if inspect.iscoroutinefunction(function):
        # Called in the loop, so that no interrupt can come between the coroutine and its first await.
        return _drive(functools.partial(function, **arguments))
    # Called here: a decorator may have made it a plain function that runs a loop of its own.
    result = function(**arguments)
    if not inspect.isawaitable(result):
        return result
    try:
        return _drive(lambda: result)
    finally:
        if inspect.iscoroutine(result):
            result.close()  # if an interrupt came before its first step


def _drive(begin: _Begin) -> Any:
    import asyncio

    global _driven, _runner
    runner = _runner
    if runner is None or runner.pid != os.getpid() or runner.loop.is_closed():
        runner = _runner = _Runner()
    error: BaseException | None = None
    driven = _driven = _Driven(runner.loop)  # from here on an interrupt cancels the task and does not raise
    try:
        try:
            value, error = runner.run(driven, begin)
        finally:
            # Freed while an interrupt cannot raise: one raised in a weak reference's callback is lost.
            driven.task = None
            if stuck := runner.clear():
                _reasons.append("tasks or threads of a handler do not end: " + ", ".join(stuck[:5]))
                _runner = None  # the next job must not run them
    finally:
        _driven = None
    try:
        if error is None:
            return value
        if driven.asked is not None and isinstance(error, asyncio.CancelledError):
            raise driven.asked.with_traceback(error.__traceback__) from None
        raise error
    finally:
        del error, driven  # breaks the cycle with this frame


def interrupt(error: JobInterrupt) -> bool:
    """If the loop is running, end its task: the task gets CancelledError, and its caller gets `error`.

    Call it from a Python signal handler in the loop's thread. False: the loop is not running, so `error` may be raised.
    """
    if _driven is None:
        return False
    _driven.interrupt(error)
    return True


def take_reasons() -> list[str]:
    """Why this process should be replaced. Each reason is given once."""
    found = list(_reasons)
    _reasons.clear()
    return found


@contextmanager
def set_aside() -> Iterator[None]:
    """Inside it, jobs run on a loop of their own, which is closed at the end. The present loop may be running."""
    global _driven, _runner
    before = _driven, _runner
    _driven = _runner = None
    try:
        yield
    finally:
        close()
        _driven, _runner = before


def close() -> None:
    """Close the loop, if there is one. A worker that ends need not call it."""
    global _runner
    if _runner is not None:
        _runner.close()
        _runner = None

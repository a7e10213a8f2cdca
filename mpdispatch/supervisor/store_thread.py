"""Runs store calls on a thread while the disk is slow, so that the loop goes on meanwhile. Effects: a thread.

While the disk is fast, the loop's own thread makes the calls. Once a call has waited for `_SLOW_S`, the next
ones are handed to the thread, one at a time, until no call has waited so long for `_LASTS_S`. So when a disk
becomes slow, only the first flush delays a kill or a timeout. (Handing over all calls: a drain of no-op jobs
took 3 % more CPU time and the same wall time; with flushes of 200 ms a timeout was 1 to 3 ms late, instead of
105 to 170.)

The caller still gets its result before it goes on, so a recorded outcome is durable when reported. One thread
at a time uses the store. While a call runs on the thread, the loop hears workers, enforces deadlines and
answers signals (`meanwhile`); duties that need the store wait.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, cast

from mpdispatch.pool.selector import Selector
from mpdispatch.store.contract import SupervisorStore
from mpdispatch.store.optional import FileCare

_SLOW_S = 0.020
"""How late the loop may be. A flush after 800 outcomes takes some 12 ms, others 0.1 to 5 ms."""
_LASTS_S = 10.0
_WRITES = frozenset(
    {
        "commit",
        "forget_late_cancels",
        "prune",
        "rebase",
        "renew",
        "set_aside",
        "set_aside_astray",
        "take_over",
    }
)
_CARE_WRITES = frozenset({"checkpoint_if_large", "sync"})


class StoreThread:
    """A proxy of the supervisor's store; `face()` gives it the store's type. The loop's thread only."""

    def __init__(self, store: SupervisorStore, selector: Selector) -> None:
        self._store, self._selector = store, selector
        self.file_care = cast(FileCare, _FileCareFace(self, store))
        self.meanwhile: Callable[[Callable[[], bool]], None] | None = None
        """Runs the duties without the store until the function returns True. None: hand no call over."""
        self._thread: threading.Thread | None = None
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._read_fd = self._write_fd = -1
        self._is_away = False
        self._slow_until_s = 0.0

    def face(self) -> SupervisorStore:
        """This proxy, typed as the store."""
        return cast(SupervisorStore, self)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._store, name)
        return partial(self.call, attribute) if name in _WRITES else attribute

    def call(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call the method here, or on the thread while the disk is slow; returns or raises its result."""
        if self.meanwhile is None or time.monotonic() >= self._slow_until_s:
            return self._timed(method, *args, **options)
        return self._hand_over(self.meanwhile, partial(self._timed, method, *args, **options))

    def _timed(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        began_s, cpu_s = time.monotonic(), time.thread_time()
        try:
            return method(*args, **options)
        finally:
            ended_s = time.monotonic()
            if ended_s - began_s - (time.thread_time() - cpu_s) >= _SLOW_S:
                self._slow_until_s = ended_s + _LASTS_S

    def _hand_over(self, meanwhile: Callable[[Callable[[], bool]], None], call: Callable[[], Any]) -> Any:
        if not self._start():
            return call()
        result: list[Any] = []
        error: list[BaseException] = []
        done = threading.Event()

        def work() -> None:
            try:
                result.append(call())
            except BaseException as raised:  # noqa: BLE001 - raised again in the caller
                error.append(raised)
            finally:
                done.set()
                os.write(self._write_fd, b"!")

        self._is_away = True
        self._calls.put(work)
        try:
            meanwhile(done.is_set)
        finally:
            done.wait()  # even if `meanwhile` raised: the store is in use until the call ends
            self._is_away = False
            os.read(self._read_fd, 1)
        if error:
            raise error[0]
        return result[0]

    def _start(self) -> bool:
        """Start the thread if needed. False: another call is running, or no thread can be started."""
        if self._is_away:
            return False
        if self._thread is None:
            try:
                self._read_fd, self._write_fd = os.pipe()
                # Registered as `_calls`, so that no other part takes the event for its own.
                self._selector.register(self._read_fd, self._calls, urgent=True)
                self._thread = threading.Thread(target=self._main, name="mpdispatch-store", daemon=True)
                self._thread.start()
            except (OSError, RuntimeError):  # no descriptor or thread available
                self._thread = None
                self._close_pipe()
                return False
        return True

    def _main(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    def _close_pipe(self) -> None:
        if self._read_fd >= 0:
            self._selector.unregister(self._read_fd)
            os.close(self._read_fd)
            os.close(self._write_fd)
            self._read_fd = self._write_fd = -1

    def close(self) -> None:
        """End the thread, then close the store."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread.join()
            self._thread = None
        self._close_pipe()
        self._store.close()


class _FileCareFace:
    """A proxy of the store's `FileCare`."""

    def __init__(self, thread: StoreThread, store: SupervisorStore) -> None:
        self._thread, self._store = thread, store

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._store.file_care, name)
        return partial(self._thread.call, attribute) if name in _CARE_WRITES else attribute

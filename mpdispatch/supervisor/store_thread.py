"""Store calls that a slow disk keeps waiting run on a thread, and the loop goes on hearing meanwhile. Effects: a thread.

A call is made on the loop's own thread as long as the disk is quick. Once a call was kept waiting for `_SLOW_S`, the next
ones are handed over, one at a time, until none was for `_LASTS_S`. So of a disk that becomes slow only the first flush
delays a kill or a timeout. (Handing over all of them: a drain of jobs that do nothing took 3 % more CPU time, in as much
time; with 200 ms a flush a timeout was 1 to 3 ms late, instead of 105 to 170.)

The caller still gets its result before it goes on: what is recorded is durable when it says so. The store is used by one
thread at a time. While a call is away, the loop hears workers, enforces deadlines and answers signals (`meanwhile`); what
needs the store waits.
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

__all__ = ["StoreThread"]

_SLOW_S = 0.020
"""What the loop may be late by. A flush after 800 outcomes takes some 12 ms, others 0.1 to 5 ms."""
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
    """Stands for a supervisor's store: `face()` is one. Used by the loop's thread only."""

    def __init__(self, store: SupervisorStore, selector: Selector) -> None:
        self._store, self._selector = store, selector
        self.file_care = cast(FileCare, _FileCareFace(self, store))
        self.meanwhile: Callable[[Callable[[], bool]], None] | None = None
        """Goes on with what needs no store until the given question is answered with True. None: nothing is handed over."""
        self._thread: threading.Thread | None = None
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._read_fd = self._write_fd = -1
        self._is_away = False
        self._slow_until_s = 0.0

    def face(self) -> SupervisorStore:
        """The store, as the rest of the supervisor sees it."""
        return cast(SupervisorStore, self)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._store, name)
        return partial(self.call, attribute) if name in _WRITES else attribute

    def call(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """What the method gives or raises: made here, or on the thread while the disk is slow."""
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
            except BaseException as raised:  # noqa: BLE001 - raised again by whoever asked
                error.append(raised)
            finally:
                done.set()
                os.write(self._write_fd, b"!")

        self._is_away = True
        self._calls.put(work)
        try:
            meanwhile(done.is_set)
        finally:
            done.wait()  # something was raised here meanwhile: nobody may use the store before the call is over
            self._is_away = False
            os.read(self._read_fd, 1)
        if error:
            raise error[0]
        return result[0]

    def _start(self) -> bool:
        """Whether there is a thread to hand a call to, and none is away."""
        if self._is_away:
            return False
        if self._thread is None:
            try:
                self._read_fd, self._write_fd = os.pipe()
                # Not under our own name: that would be a wake-up of the store.
                self._selector.register(self._read_fd, self._calls, urgent=True)
                self._thread = threading.Thread(target=self._main, name="mpdispatch-store", daemon=True)
                self._thread.start()
            except (OSError, RuntimeError):  # no descriptor or thread to be had
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
    """Stands for the store's `FileCare`."""

    def __init__(self, thread: StoreThread, store: SupervisorStore) -> None:
        self._thread, self._store = thread, store

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._store.file_care, name)
        return partial(self._thread.call, attribute) if name in _CARE_WRITES else attribute

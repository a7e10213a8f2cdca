"""Stop requests to the loop: from signals, and from `stop()` in other threads. Effects.

A request writes a byte to a pipe in the loop's selector.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from mpdispatch.pool.selector import Selector

_STOPPING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))


class StopSignal:
    """A self-pipe. `requests` counts stop requests: 1 = let jobs finish, 2 or more = stop at once."""

    def __init__(self, selector: Selector) -> None:
        self._selector = selector
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        selector.register(self._read, self, urgent=True)
        self.requests = 0
        self.patience_s: float | None = None
        """How long jobs may take to finish, if the caller of `stop` set it."""
        self._lock = threading.Lock()
        self._before: dict[int, Any] = {}
        self._wakeup_before = -1

    def request(self, patience_s: float | None = None) -> None:
        """Ask the loop to stop. Any thread, any time; never blocks."""
        with self._lock:
            self.requests += 1
            self.patience_s = patience_s if patience_s is not None else self.patience_s
            self._poke()

    def _poke(self) -> None:
        if self._write < 0:
            return
        try:
            os.write(self._write, b"!")
        except BlockingIOError:
            return  # It is full, so the loop wakes anyway.

    def listen_to_signals(self) -> None:
        """Make SIGTERM, SIGINT and SIGHUP stop the loop instead of the process. Main thread only.

        SIGINT and SIGHUP stay ignored if this process was started so: by nohup, or in the background of a script.
        """
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in _STOPPING:
            if number != signal.SIGTERM and signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._before[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # No lock: a handler must not wait for the code it interrupted. Python writes the byte to the wake-up fd.
        self.requests += 1

    def drain(self) -> None:
        """Consume the bytes that woke the loop."""
        try:
            while os.read(self._read, 4096):
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        if self._before:
            for number, handler in self._before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
            signal.set_wakeup_fd(self._wakeup_before)
        self._selector.unregister(self._read)
        with self._lock:
            os.close(self._read)
            os.close(self._write)
            self._write = -1

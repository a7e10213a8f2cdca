"""What reaches the loop from outside it: signals, and `stop()` from other threads. Effects.

Handlers only write a byte; the loop reads it where it waits anyway.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from mpdispatch.pool.selector import Selector

__all__ = ["StopSignal"]

_STOPPING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))


class StopSignal:
    """A self-pipe. `requests` counts requests to stop: 1 = drain, 2 or more = at once."""

    def __init__(self, selector: Selector) -> None:
        self._selector = selector
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        selector.register(self._read, self, urgent=True)
        self.requests = 0
        self.patience_s: float | None = None
        """How long a drain may take, if the caller of `stop` said so."""
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
        """Main thread only: SIGTERM, SIGINT and SIGHUP stop the loop instead of the process.

        But for SIGINT and SIGHUP where this process was started to ignore them: by nohup, in the background of a script.
        """
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in _STOPPING:
            if number != signal.SIGTERM and signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._before[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # No lock here: a handler must not wait for what it interrupted. The wake-up fd has the byte written.
        self.requests += 1

    def drain(self) -> None:
        """Swallow what woke the loop."""
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

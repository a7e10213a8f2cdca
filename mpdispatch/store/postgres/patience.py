"""How long a call goes on trying, with growing, jittered pauses. Effects: sleeps."""

from __future__ import annotations

import random
import time

from mpdispatch.clock import sleep

_FIRST_S, _MOST_S, _GROWTH = 0.02, 1.0, 2.0


class Patience:
    """From now on for so many seconds. Clients of a server that comes back do not all knock at the same time."""

    def __init__(self, seconds: float) -> None:
        self.until_s = time.monotonic() + seconds
        self._pause_s = _FIRST_S

    def left_s(self) -> float:
        return max(0.0, self.until_s - time.monotonic())

    def pause(self) -> bool:
        """Sleep before another try. False, at once: there is no time for one."""
        left_s = self.left_s()
        if left_s <= 0:
            return False
        sleep(min(self._pause_s * (0.5 + random.random()), left_s))
        self._pause_s = min(self._pause_s * _GROWTH, _MOST_S)
        return True


class Reconnects:
    """When a lost server may be called again: at once, then after growing, jittered pauses. Of one thread."""

    def __init__(self) -> None:
        self._failures = 0
        self._not_before_s = 0.0
        self._last: Exception | None = None

    def refuse_early(self) -> None:
        """Raise the error of the last try, if it is too soon for another."""
        if self._last is not None and time.monotonic() < self._not_before_s:
            raise self._last

    def failed(self, error: Exception) -> None:
        pause_s = min(_FIRST_S * _GROWTH**self._failures, _MOST_S)
        self._failures = min(self._failures + 1, 16)
        self._not_before_s = time.monotonic() + pause_s * (0.5 + random.random())
        self._last = error

    def succeeded(self) -> None:
        self._failures, self._last = 0, None

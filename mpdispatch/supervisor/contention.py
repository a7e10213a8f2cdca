"""Estimates from wake-ups whether other processes want the store's write lock now. Pure but for its state.

Each wake-up stands for one enqueue.
"""

from __future__ import annotations

_LASTS_US, _WAKE_UPS = 50_000, 4
"""Four wake-ups, each less than 50 ms after the one before, count as contention, until 50 ms after the last
one. With fewer, a client that enqueues a batch or two and resumes a queue would slow down the drain."""


class Contention:
    """Times are boottime µs."""

    def __init__(self) -> None:
        self._woken_us = self._wake_ups = self._until_us = 0

    def woken(self, now_us: int) -> None:
        """Count a wake-up.

        >>> contention = Contention()
        >>> for at in (0, 10_000, 20_000, 30_000): contention.woken(at)
        >>> contention.is_on(79_999), contention.is_on(80_000)
        (True, False)
        """
        self._wake_ups = self._wake_ups + 1 if now_us - self._woken_us < _LASTS_US else 1
        if self._wake_ups >= _WAKE_UPS:
            self._until_us = now_us + _LASTS_US
        self._woken_us = now_us

    def is_on(self, now_us: int) -> bool:
        return now_us < self._until_us

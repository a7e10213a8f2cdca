"""The clock of a test: the machine's, and what the test has added to it."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

from mpdispatch.clock import SECOND_US, Instant, SystemClock
from mpdispatch.errors import UsageError
from mpdispatch.model.json import moment_of
from mpdispatch.policy.durations import duration_of


class FakeClock:
    """Goes as the machine's clock does, and ahead of it by all that was added with `advance`.

    Only the store goes by it: `datetime.now()` and `time.time()` in the code under test give the machine's time.

    >>> clock = FakeClock()
    >>> before = clock.time
    >>> clock.advance("2h")
    >>> 7200 <= (clock.time - before).total_seconds() < 7300
    True
    """

    def __init__(self) -> None:
        self._machine = SystemClock()
        self._ahead_us = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<FakeClock {self.time.isoformat()}, {self._ahead_us / SECOND_US:g} s ahead>"

    @property
    def time(self) -> datetime:
        """The time it shows (aware UTC)."""
        return moment_of(self.now().wall_us)

    def advance(self, seconds: float | timedelta | str) -> None:
        """Let this much time pass: seconds, a timedelta, or text such as `"90s"`, `"5m"`, `"2h"`.

        Jobs that become due run at the next `drain`, or in inline mode with the next job.

        Raises UsageError: it is no duration.
        """
        self.advance_us(round(duration_of("seconds", seconds) * SECOND_US))

    def advance_us(self, microseconds: int) -> None:
        """As `advance`, in whole microseconds. Raises UsageError: they are negative."""
        if microseconds < 0:
            raise UsageError("a clock goes forward only")
        with self._lock:
            self._ahead_us += microseconds

    def now(self) -> Instant:
        now = self._machine.now()
        return Instant(now.wall_us + self._ahead_us, now.boot_us + self._ahead_us)

"""The server's clock: leases, due times and rates of all hosts go by it. Thread-safe.

A session reads it in the answer that begins a transaction; until the next reading it is carried on by the machine's
boottime clock. So it is never ahead of the server's, and behind by no more than an answer was on its way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from mpdispatch.clock import SECOND_US, Instant, SystemClock, boot_us

_FRESH_US = SECOND_US
"""A reading is carried on for so long. A transaction begins with a new one; reads and single statements need not."""


class ServerClock:
    """A `Clock` whose `boot_us` is the same number as its `wall_us`: it goes on when the machine of a client stops."""

    def __init__(self) -> None:
        self._here = threading.local()
        self._offset_us: int | None = None
        self._read_at_us = 0

    def now(self) -> Instant:
        """Within a call of the store: the server's time. Before any, the machine's."""
        now_us, here = boot_us(), self._here
        read: Callable[[], object] | None = getattr(here, "read", None)
        if read is not None and now_us - here.read_at_us > _FRESH_US:
            read()
            now_us = boot_us()
        offset_us: int | None = getattr(here, "offset_us", None)
        if offset_us is None:
            offset_us = self._offset_us
        if offset_us is None:
            wall_us = SystemClock().now().wall_us
        else:
            wall_us = now_us + offset_us
        return Instant(wall_us, wall_us)

    def heard(self, server_us: int) -> None:
        """The server's clock showed this when it answered; called as the answer comes in."""
        here = self._here
        here.read_at_us = self._read_at_us = boot_us()
        here.offset_us = self._offset_us = server_us - here.read_at_us

    def enter(self, read: Callable[[], object]) -> None:
        """A session's call begins on this thread; `read` asks the server for its time, and calls `heard`."""
        here = self._here
        here.read, here.read_at_us, here.offset_us = read, self._read_at_us, self._offset_us

    def leave(self) -> None:
        """The session's call has ended."""
        self._here.read = None

"""Permits of jobs that a worker holds and has not begun: see `job_channel`. Both sides."""

from __future__ import annotations

import os
import sys

# Bound here, because a job may replace these functions.
from os import eventfd_read

from mpdispatch.pool.channel import ChannelBroken


class StartPermits:
    """A count that both sides share. `take` takes one or nothing."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def make(cls) -> StartPermits | None:
        """None: this system has no eventfds. Raises OSError: there is no free descriptor."""
        if sys.platform != "linux":
            return None
        return cls(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE))

    def add(self, count: int) -> None:
        try:
            os.eventfd_write(self.fd, count)
        except OSError as error:  # other code filled it
            raise ChannelBroken(f"permits: {error}") from error

    def take(self) -> bool:
        """Take one; False: there is none."""
        try:
            eventfd_read(self.fd)
        except BlockingIOError:
            return False
        except OSError as error:
            raise ChannelBroken(f"permits: {error}") from error
        return True

    def take_all(self, at_most: int) -> int:
        count = 0
        while count < at_most and self.take():
            count += 1
        return count

    def close(self) -> None:
        os.close(self.fd)

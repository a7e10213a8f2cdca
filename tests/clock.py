"""A clock that tests move."""

from __future__ import annotations

from mpdispatch.clock import SECOND_US, Instant


class FakeClock:
    """A clock that moves only by `advance` and `jump_wall`.

    >>> clock = FakeClock(wall_us=1_000_000)
    >>> clock.advance(2.5).wall_us
    3500000
    """

    def __init__(self, wall_us: int = 1_750_000_000 * SECOND_US, boot_us: int = 1000 * SECOND_US) -> None:
        self._wall_us, self._boot_us = wall_us, boot_us

    def now(self) -> Instant:
        return Instant(self._wall_us, self._boot_us)

    def advance(self, seconds: float) -> Instant:
        """Let `seconds` pass on every clock."""
        self._wall_us += round(seconds * SECOND_US)
        self._boot_us += round(seconds * SECOND_US)
        return self.now()

    def jump_wall(self, seconds: float) -> Instant:
        """Set the wall clock forward or back, as an administrator or NTP does."""
        self._wall_us += round(seconds * SECOND_US)
        return self.now()

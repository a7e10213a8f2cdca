"""How long to wait before the next worker is started, after some came to nothing. Pure but for its state."""

from __future__ import annotations

from mpdispatch.clock import SECOND_US
from mpdispatch.policy.staffing import boot_backoff_s
from mpdispatch.supervisor.suspects import Suspects

__all__ = ["BootBackoff"]


class BootBackoff:
    """Times are boottime µs. Its fields are written only here."""

    def __init__(self) -> None:
        self.suspects = Suspects()
        self.failures = 0
        self.until_us = 0
        """Not before this is a worker started."""
        self.is_wary = False
        """Whether workers have ended before they began anything, and no job has shown since that they work."""
        self._failed_us = 0
        self._was_once = False

    def is_over(self, now_us: int) -> bool:
        return now_us >= self.until_us

    def failed(self, now_us: int, *, may_be_once: bool = False) -> None:
        """A worker did not come up, or to nothing: wait longer before the next.

        `may_be_once`: it may have been somebody's doing; the first of a row is not counted.
        """
        self.is_wary = True
        if may_be_once and not self._was_once:
            self._was_once = True
            return
        self.failures += 1
        self._failed_us = now_us
        self.until_us = now_us + round(boot_backoff_s(self.failures) * SECOND_US)

    def worked(self, started_us: int) -> None:
        """A worker that was started at `started_us` has done a job. If that was after the last failure, the next may be up.

        Those that were up before say nothing of it.
        """
        if started_us >= self._failed_us:
            self.failures = self.until_us = 0
            self._was_once = False
        self.is_wary = bool(self.suspects.deaths) or self.failures > 0

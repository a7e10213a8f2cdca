"""How long to wait before starting the next worker after failed starts. Pure but for its state."""

from __future__ import annotations

from mpdispatch.clock import SECOND_US
from mpdispatch.policy.staffing import boot_backoff_s
from mpdispatch.supervisor.suspects import Suspects


class BootBackoff:
    """Times are boottime µs. Its fields are written only here."""

    def __init__(self) -> None:
        self.suspects = Suspects()
        self.failures = 0
        self.until_us = 0
        """No worker is started before this time."""
        self.is_wary = False
        """True after a worker ended before it started a job, until a finished job shows that workers work."""
        self._failed_us = 0
        self._was_once = False

    def is_over(self, now_us: int) -> bool:
        return now_us >= self.until_us

    def failed(self, now_us: int, *, may_be_once: bool = False) -> None:
        """A worker did not start, or ended before it started a job: wait longer before the next start.

        `may_be_once`: the cause may be a stray kill, so the first such failure in a row is not counted.
        """
        self.is_wary = True
        if may_be_once and not self._was_once:
            self._was_once = True
            return
        self.failures += 1
        self._failed_us = now_us
        self.until_us = now_us + round(boot_backoff_s(self.failures) * SECOND_US)

    def worked(self, started_us: int) -> None:
        """A worker started at `started_us` has finished a job. If it started after the last failure, the
        backoff ends.

        A worker started earlier proves nothing about new starts.
        """
        if started_us >= self._failed_us:
            self.failures = self.until_us = 0
            self._was_once = False
        self.is_wary = bool(self.suspects.deaths) or self.failures > 0

"""After failed starts of workers: how long to wait before the next, and which jobs are suspects. Pure but for its state."""

from __future__ import annotations

from collections.abc import Sequence

from mpdispatch.clock import SECOND_US
from mpdispatch.model import ClaimedJob
from mpdispatch.policy.staffing import boot_backoff_s

MOST_DEATHS = 5
"""At this many deaths of workers with the same job first in line, the job is ended."""
_MOST_KNOWN = 2000
"""Limit of remembered jobs, since some go to other supervisors. More than two workers can hold."""


class Suspects:
    """Which jobs may be what kills workers before they start them.

    A worker that dies in our own code, before it started any of its assigned jobs, costs no job an attempt: all of
    them go back. If one of the jobs causes the death, it would kill every worker, for ever. So from then on each of
    them is assigned alone. A job that runs is cleared; a job that was first in line at too many deaths is ended.
    """

    def __init__(self) -> None:
        self.deaths: dict[int, int] = {}
        """Job id → number of workers that died with it first in line. Mostly empty."""

    def died_with(self, jobs: Sequence[ClaimedJob]) -> ClaimedJob | None:
        """A worker died with these jobs assigned, in this order, and had started none.

        Returns the first job if it is to be ended for this, else None.
        """
        deaths, first = self.deaths, jobs[0]
        count = deaths.pop(first.id, 0) + 1
        if count < MOST_DEATHS:
            deaths[first.id] = count
        for job in jobs[1:]:
            deaths.setdefault(job.id, 0)
        for job_id in list(deaths)[: max(0, len(deaths) - _MOST_KNOWN)]:
            del deaths[job_id]
        return first if count >= MOST_DEATHS else None

    def cleared(self, job_id: int) -> None:
        """The job was run."""
        self.deaths.pop(job_id, None)


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

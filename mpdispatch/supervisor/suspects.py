"""Which jobs may be what kills workers before they start them. Pure but for its state.

A worker that dies in our own code, before it started any of its assigned jobs, costs no job an attempt: all
of them go back. If one of the jobs causes the death, it would kill every worker, for ever. So from then on
each of them is assigned alone. A job that runs is cleared; a job that was first in line at too many deaths is
ended.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpdispatch.model import ClaimedJob

MOST_DEATHS = 5
"""At this many deaths of workers with the same job first in line, the job is ended."""
_MOST_KNOWN = 2000
"""Limit of remembered jobs, since some go to other supervisors. More than two workers can hold."""


class Suspects:
    """The loop's thread only."""

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

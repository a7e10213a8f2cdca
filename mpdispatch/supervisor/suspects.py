"""Which jobs may be what workers die of before they begin them. Pure but for its state.

A worker that dies in our own code, with jobs in its hand and none begun, has spent nobody's attempt: all of them go back.
If one of them is the reason, every worker dies of it, for ever. So each of them goes to a worker of its own from then on;
those that run are cleared, and the one that is first in too many dead hands is ended.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpdispatch.model import ClaimedJob

__all__ = ["MOST_DEATHS", "Suspects"]

MOST_DEATHS = 5
"""So many workers in a row may die with the same job to be begun next."""
_MOST_KNOWN = 2000
"""Jobs kept in mind: some go back to the store, and to other supervisors. More than fit into two hands."""


class Suspects:
    """The loop's only."""

    def __init__(self) -> None:
        self.deaths: dict[int, int] = {}
        """Job id → in how many dead hands it was the first. Empty, mostly."""

    def died_with(self, jobs: Sequence[ClaimedJob]) -> ClaimedJob | None:
        """A worker has died with these in its hand, in this order, and had begun none.

        Gives the one that has come to its end by that.
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
        """It was begun."""
        self.deaths.pop(job_id, None)

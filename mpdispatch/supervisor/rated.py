"""Jobs of rate-limited queues: those just claimed, and those held back until a worker is idle. No I/O.

A rate limits starts, but a token is charged at the claim. So such a job is claimed only for a worker that
starts it at once, and is assigned right after the claim. A job that comes back unstarted has spent its token,
and is released.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mpdispatch.clock import SECOND_US
from mpdispatch.config import QueueConfig
from mpdispatch.model import ClaimedJob


@dataclass(slots=True)
class RatedQueues:
    """Not thread-safe: the loop's thread only."""

    rates: Mapping[str, float] = field(default_factory=dict)
    """Jobs per second, by queue."""
    permits: set[tuple[int, int]] = field(default_factory=set)
    """(job id, starts) of jobs that were claimed just now, and may start."""
    held_back: int = 0
    """Number of due jobs for which a token is available, but no worker."""
    held_from: tuple[int, int, int] | None = None
    """Claim order of the first held-back job. Claimed jobs that come after it wait until it has a worker."""
    token_us: int | None = None
    """Boottime of the next token that a due job waits for, if any."""
    _per_s: float = 0.0
    _since_us: int = 0

    @classmethod
    def of(cls, configs: Iterable[QueueConfig]) -> RatedQueues:
        return cls({each.name: each.rate_limit for each in configs if each.rate_limit is not None})

    def claimed(self, jobs: Iterable[ClaimedJob]) -> None:
        """Permit the rate-limited ones of these just-claimed jobs to start."""
        self.permits.update((job.id, job.starts) for job in jobs if job.queue in self.rates)

    def answered(
        self, held_back: Mapping[str, int], held_from: tuple[int, int, int] | None, now_us: int
    ) -> None:
        """Take in what a claim reported about held-back jobs."""
        if not self.held_back:
            self._since_us = now_us
        self.held_from = held_from
        self.held_back = sum(held_back.values())
        self._per_s = sum(self.rates[queue] for queue in held_back)

    def workers_wanted(self, now_us: int) -> int:
        """How many more workers could have started a job by now: one per held-back job, and one per token
        since then.

        >>> queues = RatedQueues({"mail": 10})
        >>> queues.answered({"mail": 1}, None, 1_000_000)
        >>> queues.workers_wanted(1_000_000), queues.workers_wanted(1_250_000)
        (1, 3)
        >>> queues.answered({}, None, 1_250_000)
        >>> queues.workers_wanted(9_000_000)
        0
        """
        if not self.held_back:
            return 0
        return self.held_back + int((now_us - self._since_us) * self._per_s / SECOND_US)

    def clear(self) -> None:
        """Forget everything: the claimed jobs are not ours any more."""
        self.permits.clear()
        self.held_back, self.held_from, self.token_us = 0, None, None

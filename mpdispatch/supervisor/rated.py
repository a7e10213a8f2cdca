"""Jobs of rate-limited queues in a supervisor's hands, and those that wait for a worker of it. No I/O.

A token is charged when its job is claimed, so such a job is claimed for a worker that begins it at once, or not at all:
a rate holds over starts. It goes out with the claim; one that comes back unbegun has spent its token, and goes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mpdispatch.clock import SECOND_US
from mpdispatch.config import QueueConfig
from mpdispatch.model import ClaimedJob

__all__ = ["RatedQueues"]


@dataclass(slots=True)
class RatedQueues:
    """Not thread-safe: the loop's only."""

    rates: Mapping[str, float] = field(default_factory=dict)
    """Jobs per second, by queue."""
    permits: set[tuple[int, int]] = field(default_factory=set)
    """(job id, starts) of jobs that were claimed just now, and may begin."""
    held_back: int = 0
    """Due jobs that have their token, and wait for a worker."""
    held_from: tuple[int, int, int] | None = None
    """The first of them in claim order: what was claimed and comes after it waits until it has a worker."""
    token_us: int | None = None
    """Boottime at which the next token is due that a due job waits for, if there is one."""
    _per_s: float = 0.0
    _since_us: int = 0

    @classmethod
    def of(cls, configs: Iterable[QueueConfig]) -> RatedQueues:
        return cls({each.name: each.rate_limit for each in configs if each.rate_limit is not None})

    def claimed(self, jobs: Iterable[ClaimedJob]) -> None:
        """Let those of these jobs begin that have just paid for it."""
        self.permits.update((job.id, job.starts) for job in jobs if job.queue in self.rates)

    def answered(
        self, held_back: Mapping[str, int], held_from: tuple[int, int, int] | None, now_us: int
    ) -> None:
        """What a claim said of jobs that wait for a worker."""
        if not self.held_back:
            self._since_us = now_us
        self.held_from = held_from
        self.held_back = sum(held_back.values())
        self._per_s = sum(self.rates[queue] for queue in held_back)

    def workers_wanted(self, now_us: int) -> int:
        """How many more workers could have begun a job by now: those that wait, and one per token that went by.

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
        """Forget all: what was claimed is not ours any more."""
        self.permits.clear()
        self.held_back, self.held_from, self.token_us = 0, None, None

"""What a claim may take, decided before a row is touched. Values only: a store calls back to nobody while it claims."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mpdispatch.clock import Instant


class QueueLimit(msgspec.Struct, frozen=True):
    """The limits of one queue, over all supervisors of a store. Not given: none."""

    max_concurrency: int | None = None
    """Most jobs running at once."""
    rate: float | None = None
    """Most starts per second, on average."""
    burst: int = 1
    """Most starts at once under a rate."""


class ClaimRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What one supervisor wants to claim in one commit. `policy.admission` makes a ClaimPlan of it."""

    queues: tuple[str, ...]
    """The queues to claim from, in any order."""
    slots: int = 0
    """Most jobs to claim."""
    ready: int | None = None
    """Workers that can begin a job at once; None: as many as there are slots. Jobs of rate-limited queues are claimed
    only for those."""
    limits: Mapping[str, QueueLimit] = {}
    """By queue. Limits of other queues than `queues` are ignored."""
    names: frozenset[str] | None = None
    """The names of jobs that this supervisor can run (None: all). A job of another name is parked until a request, of this
    supervisor or another, has its name."""
    app: str = ""
    """Named in the reason why a job is parked: the app that has no such handler."""

    @property
    def limited(self) -> list[str]:
        """Queues whose running jobs must be counted."""
        return [
            queue
            for queue, limit in self.limits.items()
            if limit.max_concurrency is not None and queue in self.queues
        ]

    @property
    def rated(self) -> frozenset[str]:
        """Queues whose token bucket must be read."""
        if not self.limits:
            return _NONE
        limits = self.limits.items()
        return frozenset(queue for queue, limit in limits if limit.rate is not None and queue in self.queues)

    def knows(self, name: str) -> bool:
        """Whether a job of this name can run here."""
        return self.names is None or name in self.names


_NONE: frozenset[str] = frozenset()


class ClaimFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the store knows when a claim is planned, read inside the claim's own transaction."""

    now: Instant
    running: Mapping[str, int]
    """Running jobs per queue, over all supervisors; only queues with a concurrency limit need be here."""
    buckets: Mapping[str, int]
    """Per rate-limited queue: boottime (µs) at which its next token would be due (see policy.rate)."""
    paused: frozenset[str]


class ClaimPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs a claim may take: `total` over all queues, and at most `per_queue[q]` from each.

    The claim reads no other queues than those in `per_queue`.
    """

    total: int
    per_queue: Mapping[str, int]
    next_token_us: int | None = None
    """Boottime at which the first rate-limited queue that now has none gets a token."""
    ready: int | None = None
    """Jobs of rate-limited queues must be among the first `ready` jobs of the claim: each is charged its token now, so a
    worker must start it at once. None: no such restriction."""

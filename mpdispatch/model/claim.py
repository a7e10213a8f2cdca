"""What a claim may take, decided before a row is touched. Values, and the one protocol a store calls back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from mpdispatch.clock import Instant

__all__ = ["ClaimFacts", "ClaimPlan", "Planner"]


class ClaimFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the store knows when a claim is planned, read inside the claim's own transaction."""

    now: Instant
    running: Mapping[str, int]
    """Running jobs per queue, over all supervisors; only queues with a concurrency limit need be here."""
    buckets: Mapping[str, int]
    """Per rate-limited queue: boottime (µs) at which its next token would be due (see policy.rate)."""
    paused: frozenset[str]
    ready: int | None = None
    """Workers that can begin a job at once; None: as many as there are slots."""


class ClaimPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs a claim may take: `total` over all queues, and at most `per_queue[q]` from each.

    A queue not in `per_queue` is not looked at.
    """

    total: int
    per_queue: Mapping[str, int]
    next_token_us: int | None = None
    """Boottime at which the first rate-limited queue that now has none gets a token."""
    ready: int | None = None
    """Jobs of rate-limited queues only among the first so many of a claim, so that each is begun at once: its token
    is charged now. None: anywhere."""


class Planner(Protocol):
    """Pure decisions a store asks for while it claims."""

    @property
    def limited(self) -> frozenset[str]:
        """Queues whose running jobs must be counted."""
        ...

    @property
    def rated(self) -> frozenset[str]:
        """Queues whose token bucket must be read."""
        ...

    @property
    def queues(self) -> tuple[str, ...]:
        """Queues to claim from; their order means nothing."""
        ...

    def plan(self, slots: int, facts: ClaimFacts) -> ClaimPlan: ...

    def charge(self, facts: ClaimFacts, taken: Mapping[str, int]) -> Mapping[str, int]:
        """The new bucket value of each rated queue that something was taken from."""
        ...

    def refusal(self, name: str) -> str | None:
        """Why a job of this name cannot run here (it is then parked with this reason), or None."""
        ...

    def known_names(self) -> frozenset[str] | None:
        """Names whose parked jobs may be claimed; None: every name."""
        ...

"""Short ways to say what is to be claimed."""

from __future__ import annotations

from collections.abc import Mapping

from mpdispatch.model import ClaimRequest, QueueLimit

__all__ = ["RATE", "request"]

RATE = 0.001
"""Starts per second of a rate-limited queue: within a test there are no more than its burst."""


def request(
    *queues: str,
    slots: int = 100,
    ready: int | None = None,
    limits: Mapping[str, int] | None = None,
    bursts: Mapping[str, int] | None = None,
    names: frozenset[str] | None = None,
) -> ClaimRequest:
    """`limits`: most jobs that run at once, by queue. `bursts`: tokens of rate-limited queues."""
    limits, bursts = limits or {}, bursts or {}
    return ClaimRequest(
        queues=queues or ("default",),
        slots=slots,
        ready=ready,
        limits={
            queue: QueueLimit(limits.get(queue), RATE if queue in bursts else None, bursts.get(queue, 1))
            for queue in (*limits, *bursts)
        },
        names=names,
    )

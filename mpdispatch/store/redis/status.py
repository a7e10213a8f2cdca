"""Counts for people, put together from what the server has counted. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from mpdispatch.model import JobState
from mpdispatch.policy.admission import refusal_text
from mpdispatch.store.redis.reasons import WAITING_FOR_PARENTS

STATES = tuple(JobState)
"""In the order in which the server counts them."""
COUNT_AT_MOST = 1000


def held(parked: Iterable[tuple[str, str, int]], waiting: int) -> dict[str, int]:
    """Parked jobs by reason, the commonest first, with those that wait for others."""
    found = Counter[str]()
    for name, app, count in parked:
        found[refusal_text(name, app)] += count
    if waiting:
        found[WAITING_FOR_PARENTS] += waiting
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))

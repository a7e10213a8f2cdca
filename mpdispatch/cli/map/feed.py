"""Enqueues the jobs of a map bit by bit, while it runs: seconds of work ahead, not all of it. Effects: the store.

A retried job waits behind the jobs that are enqueued, and all outputs after its own wait for it; so there are few of
them. And the first of very many commands starts at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from mpdispatch.cli.map.jobs import MapJobs

_AHEAD_S = 2.0
_LEAST_PER_SLOT = 8
_MOST = 5_000


def wanted_ahead(rate: float, slots: int) -> int:
    """How many jobs should be enqueued and not ended, if so many end per second.

    >>> wanted_ahead(0.5, 4), wanted_ahead(900.0, 2), wanted_ahead(1e6, 2)
    (32, 1800, 5000)
    """
    return max(_LEAST_PER_SLOT * slots, min(_MOST, round(rate * _AHEAD_S)))


class Feed:
    """The inputs that are still to be enqueued."""

    def __init__(
        self,
        jobs: MapJobs,
        payload_of: Callable[[int], bytes],
        *,
        total: int,
        slots: int,
        max_retries: int,
        timeout_us: int | None,
    ) -> None:
        """`payload_of`: the payload of a job, by its position."""
        self._jobs, self._payload_of, self._total, self._slots = jobs, payload_of, total, slots
        self._max_retries, self._timeout_us = max_retries, timeout_us
        self._began_s = time.monotonic()
        self._ended_before: int | None = None

    def fill(self, ended: int) -> None:
        """Enqueue more jobs if few are left; `ended`: how many have ended in all. Raises StoreError."""
        count = self._jobs.count
        if count >= self._total:
            return
        if self._ended_before is None:
            self._ended_before = ended
        seconds = max(0.1, time.monotonic() - self._began_s)
        wanted = wanted_ahead((ended - self._ended_before) / seconds, self._slots)
        if 2 * (count - ended) > wanted:
            return
        until = min(self._total, ended + wanted)
        self._jobs.enqueue(
            [self._payload_of(position) for position in range(count, until)],
            max_retries=self._max_retries,
            timeout_us=self._timeout_us,
            is_last=until == self._total,
        )

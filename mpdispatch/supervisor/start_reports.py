"""Duty: publish the starts of handlers to extensions. Effects: offers to a hook sink.

Workers do not report their starts: the loop reads the start journal every few ms. A start not seen there is
published with its outcome.
"""

from __future__ import annotations

from mpdispatch.clock import Instant
from mpdispatch.pool.protocol import Pool
from mpdispatch.supervisor.event_publisher import EventPublisher

_EVERY_US = 5_000
"""How often to look for starts while jobs flow."""


class StartReports:
    """Due while a worker's first job has no published start. Only with a hook for starts."""

    def __init__(self, publisher: EventPublisher, pool: Pool) -> None:
        self._publisher, self._pool = publisher, pool
        self._at_us = 0

    def next_due(self) -> int | None:
        has_published = self._publisher.has_published
        for worker in self._pool.workers:
            if worker.assigned and not has_published(worker.assigned[0].job):
                return self._at_us
        return None

    def run(self, now: Instant) -> None:
        self._at_us = now.boot_us + _EVERY_US
        for worker in self._pool.workers:
            if not worker.assigned or self._publisher.has_published(worker.assigned[0].job):
                continue
            started_us = worker.started_us(worker.assigned[0])
            if started_us is not None:
                started_wall_us = now.wall_us - (now.boot_us - started_us)
                self._publisher.started(worker.assigned[0].job, started_wall_us, worker.pid)
        self._publisher.flush()

"""Duty: delete jobs that ended longer ago than the retention, a little at a time. Effects: the store."""

from __future__ import annotations

import logging

from mpdispatch.clock import SECOND_US, Clock
from mpdispatch.config import Config
from mpdispatch.store.contract import SupervisorStore

__all__ = ["Pruner"]

_ROUND_US = 60 * SECOND_US
_PAUSE_US = 100_000
"""Between two chunks: the loop is the jobs' own in the meantime."""
_CHUNK = 500


class Pruner:
    """When and how much to prune. Times are boottime µs."""

    def __init__(self, store: SupervisorStore, clock: Clock, config: Config, log: logging.Logger) -> None:
        self._store, self._clock, self._log = store, clock, log
        self._retention_us = None if config.retention is None else round(config.retention * SECOND_US)
        self._gone = 0
        self.next_us: int | None = None if self._retention_us is None else 0
        """When to prune next; None: never."""

    def prune(self, now_us: int) -> None:
        """Prune a chunk, if it is time. Raises StoreError."""
        if self._retention_us is None or self.next_us is None or now_us < self.next_us:
            return
        gone = self._store.prune(self._clock.now().wall_us - self._retention_us, _CHUNK)
        self._gone += gone
        if gone > 0:
            self.next_us = now_us + _PAUSE_US
            return
        if self._gone:
            self._log.info("pruned jobs past their retention", extra={"count": self._gone})
            self._gone = 0
        self.next_us = now_us + _ROUND_US

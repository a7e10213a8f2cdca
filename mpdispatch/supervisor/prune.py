"""Duty: delete jobs that ended longer ago than the retention, in chunks. Effects: the store."""

from __future__ import annotations

import logging

from mpdispatch.clock import SECOND_US, Instant
from mpdispatch.config import Config
from mpdispatch.store.contract import SupervisorStore

_ROUND_US = 60 * SECOND_US
_PAUSE_US = 100_000
"""Pause between two chunks, in which the loop serves jobs."""
_CHUNK = 500


class Pruner:
    """Due once a minute, and every 0.1 s while there is more to delete. Only with a retention."""

    def __init__(self, store: SupervisorStore, config: Config, log: logging.Logger) -> None:
        self._store, self._log = store, log
        self._retention_us = None if config.retention is None else round(config.retention * SECOND_US)
        self._gone = 0
        self._at_us = 0

    def next_due(self) -> int | None:
        return None if self._retention_us is None else self._at_us

    def run(self, now: Instant) -> None:
        """Prune a chunk. Raises StoreError."""
        if self._retention_us is None:
            return
        gone = self._store.upkeep.prune(self._retention_us, _CHUNK)
        self._gone += gone
        if gone > 0:
            self._at_us = now.boot_us + _PAUSE_US
            return
        if self._gone:
            self._log.info("pruned jobs past their retention", extra={"count": self._gone})
            self._gone = 0
        self._at_us = now.boot_us + _ROUND_US

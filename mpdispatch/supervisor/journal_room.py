"""Duty: while the disk has no room for a journal record, log it once and retry. Effects: log, disk."""

from __future__ import annotations

import logging

from mpdispatch.clock import SECOND_US, Instant
from mpdispatch.pool.protocol import Pool

_RETRY_US = SECOND_US // 2


class JournalRoom:
    """Due while a worker waits for a record in the start journal, twice a second."""

    def __init__(self, pool: Pool, log: logging.Logger) -> None:
        self._pool, self._log = pool, log
        self._was_full = False
        self._at_us = 0

    def next_due(self) -> int | None:
        if self._pool.no_room is not None:
            return self._at_us
        return 0 if self._was_full else None

    def run(self, now: Instant) -> None:
        if self._pool.no_room is not None:
            self._pool.free_records()
            self._at_us = now.boot_us + _RETRY_US
        error = self._pool.no_room
        if error is None and self._was_full:
            self._log.warning("there is room on the disk for all workers again")
        elif error is not None and not self._was_full:
            self._log.error(
                "no room on the disk for what a worker must write before it begins a job (%s): some workers get no jobs",
                error.strerror,
            )
        self._was_full = error is not None

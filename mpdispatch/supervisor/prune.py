"""Duty: delete what need not be kept any more, and make the store's file smaller, in small steps. Effects: the store."""

from __future__ import annotations

import logging

from mpdispatch.clock import SECOND_US, Instant
from mpdispatch.config import Config
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.store.values import Retention

_ROUND_US = 60 * SECOND_US
_PAUSE_US = 50_000
"""Pause between two steps, in which the loop serves jobs. A step takes some 4 ms."""


class Pruner:
    """Due once a minute, and every 0.05 s during a round. Never if everything is kept."""

    def __init__(self, store: SupervisorStore, config: Config, log: logging.Logger) -> None:
        self._store, self._log = store, log
        self._retention = Retention(
            _us(config.retention), _us(config.retention_failed), config.retention_limit or None
        )
        self._keeps_all = self._retention == Retention(None, None, None)
        self._is_shrinking = False
        """The second half of a round: what was deleted leaves room in the store's file."""
        self._at_us = 0

    def next_due(self) -> int | None:
        return None if self._keeps_all else self._at_us

    def run(self, now: Instant) -> None:
        """Do one step. Raises StoreError."""
        if self._keeps_all:
            return
        if not self._is_shrinking:
            self._is_shrinking, is_over = not self._prune(), False
        else:
            self._is_shrinking = self._store.file_care.shrink()
            is_over = not self._is_shrinking
        self._at_us = now.boot_us + (_ROUND_US if is_over else _PAUSE_US)

    def _prune(self) -> bool:
        step = self._store.upkeep.prune(self._retention)
        if step.pruned:
            self._log.info("pruned jobs past their retention", extra={"count": step.pruned})
        return step.has_more


def _us(seconds: float | None) -> int | None:
    """None for 0 too: both say that jobs are kept for ever."""
    return round(seconds * SECOND_US) if seconds else None

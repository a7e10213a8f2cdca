"""Duty: flush a claim that was committed without a flush. Effects: the store.

A commit that only claims need not wait for the disk: a power cut in the next moments may forget that first start.
It must wait where that would be a start too many: of a job that may start only once.
"""

from __future__ import annotations

from typing import ClassVar

from mpdispatch.clock import Clock, Instant
from mpdispatch.store.contract import SupervisorStore
from mpdispatch.store.values import CommitResult

__all__ = ["ClaimSync"]

_DELAY_US = 4_000
"""Longest a claim waits for a commit that is flushed anyway."""


class ClaimSync:
    """Due 4 ms after such a claim, if no commit has been flushed since. Times are boottime µs."""

    needs_store: ClassVar[bool] = True

    def __init__(self, store: SupervisorStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._at_us: int | None = None
        """By when the last claim must be flushed; None: it is."""

    def flushed(self) -> None:
        """A commit has waited for the disk, and with it all before."""
        self._at_us = None

    def claimed(self, result: CommitResult) -> None:
        """A commit was not flushed. Raises StoreError."""
        if all(job.starts == 1 and job.max_retries > 0 for job in result.claimed):
            # No later for another claim than for the one before it.
            if self._at_us is None:
                self._at_us = self._clock.now().boot_us + _DELAY_US
        else:
            self._sync()

    def next_due(self) -> int | None:
        return self._at_us

    def run(self, now: Instant) -> None:
        """Raises StoreError."""
        self._sync()

    def _sync(self) -> None:
        self._store.file_care.sync()
        self._at_us = None

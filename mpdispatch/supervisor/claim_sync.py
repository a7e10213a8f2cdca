"""When a claim that was committed without a flush goes to disk. Effects: the store.

A commit that only claims need not wait for the disk: a power cut in the next moments may forget that first start.
It must wait where that would be a start too many: of a job that may start only once.
"""

from __future__ import annotations

from mpdispatch.clock import Clock
from mpdispatch.store.contract import CommitResult, SupervisorStore

__all__ = ["ClaimSync"]

_DELAY_US = 4_000
"""Longest a claim waits for a commit that is flushed anyway."""


class ClaimSync:
    """The loop's thread only. Times are boottime µs."""

    def __init__(self, store: SupervisorStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self.next_us = 0
        """By when the last claim must be flushed; 0: it is. Written only here."""

    def flushed(self) -> None:
        """A commit has waited for the disk, and with it all before."""
        self.next_us = 0

    def claimed(self, result: CommitResult) -> None:
        """A commit was not flushed. Raises StoreError."""
        if all(job.starts == 1 and job.max_retries > 0 for job in result.claimed):
            # No later for another claim than for the one before it.
            self.next_us = self.next_us or self._clock.now().boot_us + _DELAY_US
        else:
            self._store.file_care.sync()
            self.next_us = 0

    def sync_if_due(self, now_us: int) -> None:
        """Flush what was claimed and not flushed, if nothing has done so since. Raises StoreError."""
        if self.next_us and now_us >= self.next_us:
            self._store.file_care.sync()
            self.next_us = 0

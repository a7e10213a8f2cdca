"""Duty: flush a claim that was committed without a flush. Effects: the store.

A commit that only claims need not wait for the disk: a power cut shortly after may lose the record of a first
start. It must wait if the job could then start once too often: a job without retries, or one that has started
before.
"""

from __future__ import annotations

from mpdispatch.clock import Clock, Instant
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.store.values import CommitResult

_DELAY_US = 4_000
"""A claim waits at most this long for a commit that is flushed anyway."""


class ClaimSync:
    """Due 4 ms after such a claim, if no commit has been flushed since. Times are boottime µs."""

    def __init__(self, store: SupervisorStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._at_us: int | None = None
        """When the unflushed claims must be flushed; None: all are flushed."""

    def flushed(self) -> None:
        """A commit was flushed, and with it all earlier ones."""
        self._at_us = None

    def claimed(self, result: CommitResult) -> None:
        """A commit was not flushed. Raises StoreError."""
        if all(job.starts == 1 and job.max_retries > 0 for job in result.claimed):
            # A further claim does not move the time of an earlier one.
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

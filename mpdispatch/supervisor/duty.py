"""The protocol of all periodic work of a supervisor. Pure: no I/O, no clock.

A duty is one file and one class. `wiring` makes all of them and has the only lists. The loop runs the duties
that are due, in the order of their list, and waits until the next one is due.
"""

from __future__ import annotations

from typing import Protocol

from mpdispatch.clock import Instant


class Duty(Protocol):
    """One kind of periodic work. The loop's thread only."""

    def next_due(self) -> int | None:
        """When to run next (boottime µs; a past time means at once). None: only another part makes it due.

        Must be cheap, because the loop calls it often. After `run(now)` it must be later than `now`, or the
        loop would never wait.
        """
        ...

    def run(self, now: Instant) -> None:
        """Do the work that is due. Never waits longer than 20 ms. Raises StoreError only if it needs the store."""
        ...

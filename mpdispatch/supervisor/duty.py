"""The protocol of all periodic work of a supervisor. Pure: no I/O, no clock.

A duty is one file and one class. `wiring` makes all of them and has the only list. The loop runs the duties
that are due, in the order of that list, and waits until the next one is due.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from mpdispatch.clock import Instant


class Duty(Protocol):
    """One kind of periodic work. The loop's thread only."""

    needs_store: ClassVar[bool]
    """True: the duty uses the store, so it waits while the store is busy or full, and may raise StoreError.
    False: it runs on time whatever the state of the store."""

    def next_due(self) -> int | None:
        """When to run next (boottime µs; a past time means at once). None: only another part makes it due.

        Must be cheap, because the loop calls it often. After `run(now)` it must be later than `now`, or the
        loop would never wait.
        """
        ...

    def run(self, now: Instant) -> None:
        """Do the work that is due. Never waits longer than 20 ms."""
        ...

"""What a supervisor does when its time has come: one protocol for all of it. Pure: no I/O, no clock.

A duty is one file and one class. `wiring` makes all of them and has the only list; the loop runs what is due, in the order
of that list, and waits until the next is.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from mpdispatch.clock import Instant

__all__ = ["Duty"]


class Duty(Protocol):
    """Something to be done from time to time. The loop's thread only."""

    needs_store: ClassVar[bool]
    """True: it reads or writes the store, so it waits while the store is busy or full, and it may raise StoreError.
    False: it is done on time whatever the store does."""

    def next_due(self) -> int | None:
        """When it wants to run (boottime µs; what is past: at once). None: not by time, something else will call for it.

        Asked often, and cheap. After `run` it is later than the `now` of that, or the loop would never wait.
        """
        ...

    def run(self, now: Instant) -> None:
        """Do what is due. Never waits for longer than 20 ms."""
        ...

"""Waits for events of two levels: all, or only the urgent ones. Runs in the supervisor.

While outcomes gather for a group commit, the loop should not wake for each answer, but must wake for a
signal, an end or an enqueue. So urgent descriptors are in two selectors, the workers' channels in one.
"""

from __future__ import annotations

import selectors
from typing import Any

Selected = list[tuple[selectors.SelectorKey, int]]


class Selector:
    """Two selectors. One thread."""

    def __init__(self) -> None:
        self._all = selectors.DefaultSelector()
        self._urgent = selectors.DefaultSelector()

    def register(self, descriptor: Any, data: object, *, urgent: bool) -> None:
        """Watch a descriptor, or an object with `fileno()`."""
        self._all.register(descriptor, selectors.EVENT_READ, data)
        if urgent:
            self._urgent.register(descriptor, selectors.EVENT_READ, data)

    def unregister(self, descriptor: Any) -> None:
        self._all.unregister(descriptor)
        if descriptor in self._urgent.get_map():
            self._urgent.unregister(descriptor)

    def select(self, timeout_s: float, *, urgent_s: float = 0.0) -> Selected:
        """Wait for any event, or first for `urgent_s` only for urgent ones; gives all events present then."""
        if urgent_s > 0:
            self._urgent.select(urgent_s)
            return self._all.select(0)
        return self._all.select(timeout_s)

    def close(self) -> None:
        self._all.close()
        self._urgent.close()

"""Whom the SQLite store wakes after a transaction. Hints: they never block or raise, and may be lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Wakes(NamedTuple):
    """What to call after a commit, one or both."""

    supervisors: Callable[[], None]
    """Wakes every supervisor of the store: there may be work."""
    waiting_clients: Callable[[], None]
    """Wakes every client that waits for jobs to end: some may have ended."""

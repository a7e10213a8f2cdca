"""Duty: log the sums of lines that a lasting condition would have repeated. Effects: the log."""

from __future__ import annotations

from mpdispatch.clock import Instant
from mpdispatch.repeated import Repeated


class SumUps:
    """Due when the oldest counted line is a minute old."""

    def __init__(self, repeats: Repeated) -> None:
        self._repeats = repeats

    def next_due(self) -> int | None:
        return self._repeats.next_due()

    def run(self, now: Instant) -> None:
        self._repeats.look()

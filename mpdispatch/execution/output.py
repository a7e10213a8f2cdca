"""Passes on what a job writes, piece by piece, and never more often than the supervisor likes. In the worker.

Pieces go at once while they are few; past that they are gathered, so a job that writes without end costs the
supervisor ten messages a second. Only the last KEPT_BYTES of a stream are kept anywhere.
"""

from __future__ import annotations

import time
from typing import Protocol

from mpdispatch.model import Stream, tail

__all__ = ["OutputSender", "Wire"]

_BURST, _PER_SECOND = 20.0, 10.0


class Wire(Protocol):
    """Where pieces go: to the supervisor."""

    def output(self, job_id: int, starts: int, stream: Stream, text: str, written: int) -> None:
        """`text` was written to the stream; with it, `written` characters in all."""
        ...


class OutputSender:
    """The streams of one start. Not thread-safe: its owner holds a lock."""

    __slots__ = ("_at_s", "_budget", "_id", "_starts", "_unsent", "_wire", "_written")

    def __init__(self, wire: Wire, job_id: int, starts: int) -> None:
        self._wire, self._id, self._starts = wire, job_id, starts
        self._unsent: dict[Stream, str] = {}
        self._written: dict[Stream, int] = {}
        self._budget, self._at_s = _BURST, time.monotonic()

    def write(self, stream: Stream, text: str) -> None:
        self._written[stream] = self._written.get(stream, 0) + len(text)
        self._unsent[stream] = tail(self._unsent.get(stream, "") + text)
        self.send_if_due()

    def send_if_due(self) -> None:
        """Send what was held back, if that is allowed by now."""
        if not self._unsent:
            return
        now_s = time.monotonic()
        self._budget = min(_BURST, self._budget + (now_s - self._at_s) * _PER_SECOND)
        self._at_s = now_s
        if self._budget >= len(self._unsent):
            self._budget -= len(self._unsent)
            self.send()

    @property
    def holds_back(self) -> bool:
        """Whether there is something to be sent."""
        return bool(self._unsent)

    def send(self) -> None:
        """Send all that was held back."""
        unsent, self._unsent = self._unsent, {}
        for stream, text in unsent.items():
            self._wire.output(self._id, self._starts, stream, text, self._written[stream])

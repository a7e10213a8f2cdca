"""Sends what a job writes to the supervisor, in pieces and at a limited rate. Runs in the worker process.

The first pieces are sent at once. After that they are gathered, so that a job that writes without end costs the
supervisor ten messages a second. Only the last KEPT_BYTES of a stream are kept.
"""

from __future__ import annotations

import time
from typing import Protocol

from mpdispatch.model import Stream, tail

_BURST, _PER_SECOND = 20.0, 10.0


class Reporter(Protocol):
    """Sends a handler's reports to the supervisor. Called from any thread of the worker."""

    def progress(self, job_id: int, starts: int, data: bytes) -> None:
        """`data` is the JSON of done, total and message."""
        ...

    def output(
        self, job_id: int, starts: int, stream: Stream, text: str, written: int, *, is_last: bool
    ) -> None:
        """`text` was written to the stream, `written` characters in total so far. `is_last`: the job has ended, and its
        outcome follows."""
        ...


class OutputSender:
    """The streams of one start. Not thread-safe: its owner holds a lock."""

    __slots__ = ("_at_s", "_budget", "_id", "_reporter", "_starts", "_unsent", "_written")

    def __init__(self, reporter: Reporter, job_id: int, starts: int) -> None:
        self._reporter, self._id, self._starts = reporter, job_id, starts
        self._unsent: dict[Stream, str] = {}
        self._written: dict[Stream, int] = {}
        self._budget, self._at_s = _BURST, time.monotonic()

    def write(self, stream: Stream, text: str, *, is_last: bool = False) -> None:
        """Send the text, if the rate allows it. `is_last`: hold it back, because the job ends now."""
        self._written[stream] = self._written.get(stream, 0) + len(text)
        self._unsent[stream] = tail(self._unsent.get(stream, "") + text)
        if not is_last:
            self.send_if_due()

    def send_if_due(self) -> None:
        """Send what is held back, if the rate allows it."""
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
        return bool(self._unsent)

    def send(self, *, is_last: bool = False) -> None:
        """Send all that is held back. `is_last`: the job has ended."""
        unsent, self._unsent = self._unsent, {}
        for stream, text in unsent.items():
            written = self._written[stream]
            self._reporter.output(self._id, self._starts, stream, text, written, is_last=is_last)

"""A worker's messages in order: lines of its reply ring, and frames of its channel. Both sides.

A message that is too long for a line comes as a frame, a spill. A line in the ring, its notice, marks its place.
"""

from __future__ import annotations

import threading
from collections import deque

# Bound here, because a job may replace this function.
from mpdispatch.clock import sleep
from mpdispatch.execution.process_context import is_copy
from mpdispatch.host.reply_ring import LINE_BYTES, ReplyRingReader, ReplyRingWriter
from mpdispatch.pool import frames
from mpdispatch.pool.channel import Channel

_FULL_PAUSE_S = 0.0005


class ReplyReader:
    """Reads the messages of one worker. Not thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.reply_ring: ReplyRingReader | None = None
        """Set once the worker has a record. Before, all its messages are frames."""
        self._spills: deque[tuple[int, frames.FromWorker]] = deque()
        """Long messages, by number, whose notices have not been read."""

    def read(self, found: list[frames.FromWorker], *, in_channel: bool) -> None:
        """Add all its unread messages to `found`; without `in_channel` only those that need no system call.

        Raises Exception: of any kind: the worker sent junk. The messages before it are in `found`.
        """
        self._read_ring(found)
        while in_channel and (frame := self._channel.receive(wait=False)) is not None:
            self._open_frame(frame, found)
            self._read_ring(found)

    def left_over(self) -> list[frames.FromWorker]:
        """Long messages whose notices the worker never wrote. Call it after its end."""
        found = [message for _, message in self._spills]
        self._spills.clear()
        return found

    def has_heard_all(self) -> bool:
        """Whether there are no unread messages."""
        if self.reply_ring is not None and not self.reply_ring.is_empty():
            return False
        return not self._channel.has_frame()

    def _read_ring(self, found: list[frames.FromWorker]) -> None:
        if self.reply_ring is None or not (lines := self.reply_ring.take()):
            return
        try:
            messages = frames.decode_lines(lines)
        except frames.FrameError:
            found.extend(
                map(frames.decode_from_worker, lines.splitlines())
            )  # up to the bad one, which raises again
        if frames.SPILL not in lines:
            found += messages
            return
        for message in messages:
            found.append(self._spill(message.number, found) if type(message) is frames.Spill else message)

    def _open_frame(self, frame: bytes, found: list[frames.FromWorker]) -> None:
        if frame == frames.WAKE:
            return
        if frames.is_spill(frame):
            self._spills.append(frames.open_spill(frame))
        else:
            found.append(frames.decode_from_worker(frame))

    def _spill(self, number: int, found: list[frames.FromWorker]) -> frames.FromWorker:
        """The long message of this notice. It was sent before the notice was written."""
        while True:
            while self._spills:
                other, message = self._spills.popleft()
                if other == number:
                    return message
            frame = self._channel.receive(wait=False)
            if frame is None:
                raise frames.FrameError("a notice of a message that is not there")
            self._open_frame(frame, found)


class ReplyWriter:
    """Writes replies into the reply ring, and into the channel only if necessary. For any thread, and forks, too."""

    def __init__(self, channel: Channel, reply_ring: ReplyRingWriter) -> None:
        self._channel, self._reply_ring = channel, reply_ring
        self._lock = threading.Lock()
        self._has_news = False
        self._spills = 0

    def write(self, message: bytes, *, is_urgent: bool) -> None:
        """Send a message. `is_urgent`: wake the supervisor at once, not only when this worker has no more jobs."""
        if is_copy():
            self._channel.send(message, wait=True)  # the ring belongs to the worker, not to its forks
            return
        with self._lock:
            # A longer message goes through the channel as a frame.
            if len(message) < LINE_BYTES and b"\n" not in message:
                self._put(message + b"\n")
            else:
                # Numbered, because a timeout may be raised between frame and notice. Then the next notice must not
                # be taken for this frame's.
                self._spills += 1
                self._channel.send(frames.spill(self._spills, message), wait=True)
                self._put(frames.encode(frames.Spill(self._spills)) + b"\n")
                is_urgent = True
            self._has_news = True
            if is_urgent:
                self._wake()

    def flush(self) -> None:
        """Before this worker waits: wake the supervisor if there are unannounced replies."""
        if self._has_news:
            with self._lock:
                self._wake()

    def _wake(self) -> None:
        self._has_news = False
        self._channel.send(frames.WAKE, wait=True)

    def _put(self, line: bytes) -> None:
        while not self._reply_ring.put(line):
            # The ring is full because the supervisor is far behind. Wait for it, as with a full channel.
            self._wake()
            sleep(_FULL_PAUSE_S)

"""Reads a worker's messages in order: lines of its reply ring, and frames of its channel. Runs in the supervisor.

A message that is too long for a line comes as a frame, a spill. A line in the ring, its notice, marks its place.
"""

from __future__ import annotations

from collections import deque

from mpdispatch.host.reply_ring import ReplyRingReader
from mpdispatch.pool.channel import Channel
from mpdispatch.pool.frames import (
    SPILL,
    WAKE,
    FrameError,
    FromWorker,
    Spill,
    decode_from_worker,
    decode_lines,
    is_spill,
    open_spill,
)


class ReplyReader:
    """Reads the messages of one worker. Not thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.reply_ring: ReplyRingReader | None = None
        """Set once the worker has a record. Before, all its messages are frames."""
        self._spills: deque[tuple[int, FromWorker]] = deque()
        """Long messages, by number, whose notices have not been read."""

    def read(self, found: list[FromWorker], *, in_channel: bool) -> None:
        """Add all its unread messages to `found`; without `in_channel` only those that need no system call.

        Raises:
            Exception: of any kind: the worker sent junk. The messages before it are in `found`.
        """
        self._read_ring(found)
        while in_channel and (frame := self._channel.receive(wait=False)) is not None:
            self._open_frame(frame, found)
            self._read_ring(found)

    def left_over(self) -> list[FromWorker]:
        """Long messages whose notices the worker never wrote. Call it after its end."""
        found = [message for _, message in self._spills]
        self._spills.clear()
        return found

    def has_heard_all(self) -> bool:
        """Whether there are no unread messages."""
        if self.reply_ring is not None and not self.reply_ring.is_empty():
            return False
        return not self._channel.has_frame()

    def _read_ring(self, found: list[FromWorker]) -> None:
        if self.reply_ring is None or not (lines := self.reply_ring.take()):
            return
        try:
            messages = decode_lines(lines)
        except FrameError:
            found.extend(map(decode_from_worker, lines.splitlines()))  # up to the bad one, which raises again
        if SPILL not in lines:
            found += messages
            return
        for message in messages:
            found.append(self._spill(message.number, found) if type(message) is Spill else message)

    def _open_frame(self, frame: bytes, found: list[FromWorker]) -> None:
        if frame == WAKE:
            return
        if is_spill(frame):
            self._spills.append(open_spill(frame))
        else:
            found.append(decode_from_worker(frame))

    def _spill(self, number: int, found: list[FromWorker]) -> FromWorker:
        """The long message of this notice. It was sent before the notice was written."""
        while True:
            while self._spills:
                other, message = self._spills.popleft()
                if other == number:
                    return message
            frame = self._channel.receive(wait=False)
            if frame is None:
                raise FrameError("a notice of a message that is not there")
            self._open_frame(frame, found)

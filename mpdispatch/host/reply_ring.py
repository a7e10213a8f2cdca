"""A worker's replies to its supervisor through shared memory, without a system call per reply. Both sides.

A ring of bytes in the worker's record of the start journal: one JSON message per line. The worker writes a line, then
the count of bytes written; the supervisor reads up to that count, then writes how far it has read. So replies survive
the worker, whatever kills it, and a half-written line does not count. They also survive the supervisor, whose last
outcomes may not be on disk: its rescuer reads the part of the ring that is surely whole (`last_lines`): the last 48 KiB
and all unread lines.

    0       8       16                                65536
    ┌───────┬───────┬───────────────────────────────────┐
    │written│ read  │ lines, round and round            │
    └───────┴───────┴───────────────────────────────────┘
"""

from __future__ import annotations

import mmap
import struct
from typing import TypeAlias

REPLY_RING_BYTES = 65536
LINE_BYTES = 16 * 1024 + 1
"""The longest line, with its newline. A line not counted yet may have overwritten this much of the oldest."""
_WORD_BYTES = 8
_LINES_AT = 2 * _WORD_BYTES
_ROOM = REPLY_RING_BYTES - _LINES_AT
_COUNTS = struct.Struct("@QQ")

Words: TypeAlias = "memoryview[int]"
"""The file as words of eight bytes, each read or written in one access. `struct.pack_into` zeroes the bytes first, so a
reader could see a count of zero."""


class ReplyRingBroken(Exception):
    """The counts are impossible: something else wrote into the ring."""


class _Side:
    __slots__ = ("_at", "_lines", "_map", "_read", "_words")

    def __init__(self, mapping: mmap.mmap, words: Words, base: int) -> None:
        self._map, self._words, self._read = mapping, words, 0
        self._at, self._lines = base // _WORD_BYTES, base + _LINES_AT


class ReplyRingWriter(_Side):
    """The worker's side. One thread at a time."""

    __slots__ = ()

    def put(self, line: bytes) -> bool:
        """Write a line of at most LINE_BYTES whose only newline is its last byte.

        False: no room until the supervisor has read more.
        """
        # Keep no second count of bytes written: an interrupt between updating the two would leave a half-counted
        # line, and the next line would overwrite more than LINE_BYTES of the oldest.
        size, written = len(line), self._words[self._at]
        if size > _ROOM - (written - self._read):
            self._read = self._words[self._at + 1]
            if size > _ROOM - (written - self._read):
                return False
        at, lines = written % _ROOM, self._lines
        if at + size <= _ROOM:
            self._map[lines + at : lines + at + size] = line
        else:
            first = _ROOM - at
            self._map[lines + at : lines + _ROOM] = line[:first]
            self._map[lines : lines + size - first] = line[first:]
        # Last: bytes beyond the count were never written.
        self._words[self._at] = written + size
        return True


class ReplyRingReader(_Side):
    """The supervisor's side."""

    __slots__ = ()

    def __init__(self, mapping: mmap.mmap, words: Words, base: int) -> None:
        """Clear the ring for a new worker."""
        super().__init__(mapping, words, base)
        words[self._at] = words[self._at + 1] = 0

    def is_empty(self) -> bool:
        return self._words[self._at] == self._read

    def take(self) -> bytes:
        """The lines not read yet; empty if there are none.

        Raises ReplyRingBroken: something other than `ReplyRingWriter` wrote into the ring.
        """
        written = self._words[self._at]
        size = written - self._read
        if size == 0:
            return b""
        if not 0 < size <= _ROOM:
            raise ReplyRingBroken(f"{size} bytes in a ring of {_ROOM}")
        at, lines = self._read % _ROOM, self._lines
        if at + size <= _ROOM:
            found = self._map[lines + at : lines + at + size]
        else:
            found = self._map[lines + at : lines + _ROOM] + self._map[lines : lines + size - (_ROOM - at)]
        self._read = written
        self._words[self._at + 1] = written
        return found


def last_lines(ring: bytes) -> list[bytes]:
    """The lines that are surely whole in the ring of a worker that is gone, oldest first, read or unread.

    The worker may have been killed while writing a line not counted yet. Its bytes may have overwritten the oldest read
    lines, and the start of a new line joined to the rest of an old one could look like a reply never given.
    """
    written, read = _COUNTS.unpack_from(ring)
    start = max(0, written + LINE_BYTES - _ROOM)
    is_cut = start > 0
    if written - _ROOM <= read <= start:
        start, is_cut = read, False  # Unread lines are never overwritten, and begin at a line's start.
    lines, at = ring[_LINES_AT:REPLY_RING_BYTES], start % _ROOM
    found = (lines[at:] + lines[:at])[: written - start].split(b"\n")
    # Nothing follows the last newline if only a ReplyRingWriter wrote here.
    return found[is_cut:-1]

"""What a worker says, through shared memory: no system call per answer. Both sides.

A ring of bytes in the worker's part of the start journal: one JSON message a line. The worker writes a line, then the
count of bytes written; the supervisor reads up to that count, then says how far it has read. So what was said outlives
the worker, whatever kills it, and a line that was being written then was never said. It outlives the supervisor too,
and what that had read may not be on disk: whoever comes after reads the ring back as far as it is surely whole
(`last_lines`), which is the last 48 KiB and all that was not read.

    0       8       16                                65536
    ┌───────┬───────┬───────────────────────────────────┐
    │written│ read  │ lines, round and round            │
    └───────┴───────┴───────────────────────────────────┘
"""

from __future__ import annotations

import mmap
import struct
from typing import TypeAlias

__all__ = [
    "LINE_BYTES",
    "REPLY_RING_BYTES",
    "ReplyRingBroken",
    "ReplyRingReader",
    "ReplyRingWriter",
    "Words",
    "last_lines",
]

REPLY_RING_BYTES = 65536
LINE_BYTES = 16 * 1024 + 1
"""The longest line, with its newline. One that is not counted yet may have destroyed so much of the oldest."""
_WORD_BYTES = 8
_LINES_AT = 2 * _WORD_BYTES
_ROOM = REPLY_RING_BYTES - _LINES_AT
_COUNTS = struct.Struct("@QQ")

Words: TypeAlias = "memoryview[int]"
"""The file as words of eight bytes: one load or store each. `struct.pack_into` clears before it writes, and so a
reader saw a count of zero."""


class ReplyRingBroken(Exception):
    """The counts make no sense: somebody else wrote there."""


class ReplyRingWriter:
    """The worker's side. One thread at a time."""

    __slots__ = ("_at", "_lines", "_map", "_read", "_words")

    def __init__(self, mapping: mmap.mmap, words: Words, base: int) -> None:
        self._map, self._words, self._read = mapping, words, 0
        self._at, self._lines = base // _WORD_BYTES, base + _LINES_AT

    def put(self, line: bytes) -> bool:
        """Say this: at most LINE_BYTES, its last byte a newline, the only one.

        False: there is no room until the supervisor has read.
        """
        # No count of our own beside the one that is read: an interrupt between the two would leave a line that is
        # neither said nor unsaid, and the next one would destroy more of the oldest than LINE_BYTES.
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
        # Last: what it does not cover was never said.
        self._words[self._at] = written + size
        return True


class ReplyRingReader:
    """The supervisor's side."""

    __slots__ = ("_at", "_lines", "_map", "_read", "_words")

    def __init__(self, mapping: mmap.mmap, words: Words, base: int) -> None:
        """An empty box, for a new worker."""
        self._map, self._words, self._read = mapping, words, 0
        self._at, self._lines = base // _WORD_BYTES, base + _LINES_AT
        words[self._at] = words[self._at + 1] = 0

    def is_empty(self) -> bool:
        return self._words[self._at] == self._read

    def take(self) -> bytes:
        """The lines not read yet; empty if there are none.

        Raises:
            ReplyRingBroken: what is there was not written by `ReplyRingWriter`.
        """
        written = self._words[self._at]
        size = written - self._read
        if size == 0:
            return b""
        if not 0 < size <= _ROOM:
            raise ReplyRingBroken(f"{size} bytes in a box of {_ROOM}")
        at, lines = self._read % _ROOM, self._lines
        if at + size <= _ROOM:
            found = self._map[lines + at : lines + at + size]
        else:
            found = self._map[lines + at : lines + _ROOM] + self._map[lines : lines + size - (_ROOM - at)]
        self._read = written
        self._words[self._at + 1] = written
        return found


def last_lines(box: bytes) -> list[bytes]:
    """What is surely whole of what was said into a box whose worker is gone, oldest first, read or not.

    The worker may have been killed over a line it had not counted: of what had been read, its bytes may have replaced
    the oldest, and the rest of an old line behind the beginning of a new one could pass for an answer never given.
    """
    written, read = _COUNTS.unpack_from(box)
    start = max(0, written + LINE_BYTES - _ROOM)
    is_cut = start > 0
    if written - _ROOM <= read <= start:
        start, is_cut = read, False  # What is not read is never written over; and it begins with a line.
    lines, at = box[_LINES_AT:REPLY_RING_BYTES], start % _ROOM
    found = (lines[at:] + lines[:at])[: written - start].split(b"\n")
    # Behind the last newline there is nothing, if all of it was written by an ReplyRingWriter.
    return found[is_cut:-1]

"""How a start journal lies in its file, in this machine's byte order. Ground of the modules that read and write one.

What stands on disk is read by supervisors of other versions on this machine: it keeps its name and its magic bytes.

0        4096      4096 + 96 Ki
┌────────┬─────────┬─────────┬───   header: magic, boot id, token, records handed out so far
│ header │ record  │ record  │ …    record: 64 bytes of head, 32 of control, 1020 marks of 32 bytes,
└────────┴─────────┴─────────┴───           and the worker's replies (see `reply_ring`) in the last 64 KiB
"""

from __future__ import annotations

import mmap
import struct
from typing import NamedTuple

from mpdispatch.host.reply_ring import REPLY_RING_BYTES

__all__ = [
    "CHECK",
    "CLEAN",
    "CONTROL",
    "CONTROL_AT",
    "COUNT_AT",
    "HEAD",
    "HEADER",
    "MAGIC",
    "MARK",
    "MARKS",
    "MARKS_AT",
    "MARK_BYTES",
    "OLD_MAGIC",
    "PAGE",
    "RECORD_BYTES",
    "RECORD_JOBS",
    "RECORD_MAGIC",
    "RECORD_MAGIC_AT",
    "REPLIES_AT",
    "SHIFT",
    "USED",
    "USED_AT",
    "WORD_BYTES",
    "Control",
    "Mark",
    "base_of",
    "unpacked",
]

RECORD_JOBS = 1000
"""Most jobs of one worker that are dispatched and whose outcome is not on disk."""

MAGIC, OLD_MAGIC = b"mpdmark3", b"mpdmark2"
"""The old one is that of schema version 1, whose supervisors may still run: every record was there from the start."""
HEADER = struct.Struct("<8s36s32s")  # magic, boot id, token
USED_AT = 80
USED = struct.Struct("@Q")  # records handed out so far, and 1: a header that was cut says 0
PAGE = 4096
REPLIES_AT = 32768
RECORD_BYTES = REPLIES_AT + REPLY_RING_BYTES
HEAD = struct.Struct("@qqQ")  # pid, start, marks written
CONTROL = struct.Struct("@QII")  # job id, starts, what
MARK = struct.Struct("@QQQQ")  # job id, starts, boottime µs, check
CHECK = 0x9E3779B97F4A7C15
"""Folded with the other three: a torn mark does not add up (a CRC would cost 0.7 µs more a job)."""
SHIFT = 31
"""Past the ids of a store's first two billion jobs: else starts and id of two marks may differ by the same bits."""
RECORD_MAGIC = b"mpd-ring"
COUNT_AT, RECORD_MAGIC_AT, CONTROL_AT, MARKS_AT = 16, 24, 64, 96
CLEAN = (bytes(RECORD_MAGIC_AT) + RECORD_MAGIC).ljust(REPLIES_AT, b"\0")
"""What a record begins with; written at once, for somebody may be reading."""
WORD_BYTES = 8
MARKS = 1020
MARK_BYTES = 32

assert MARKS_AT + MARKS * MARK_BYTES <= REPLIES_AT


class Mark(NamedTuple):
    job_id: int
    starts: int
    started_boot_us: int


class Control(NamedTuple):
    """What the supervisor wants done to one running start: `kind` 1 = timeout, 2 = cancel."""

    job_id: int
    starts: int
    kind: int


def base_of(index: int) -> int:
    return PAGE + index * RECORD_BYTES


def unpacked(data: bytes | mmap.mmap, at: int) -> Mark | None:
    job_id, starts, boot_us, check = MARK.unpack_from(data, at)
    if job_id == 0 or check != job_id ^ starts << SHIFT ^ boot_us ^ CHECK:
        return None
    return Mark(job_id, starts, boot_us)

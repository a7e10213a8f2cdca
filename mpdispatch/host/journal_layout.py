"""File format of a start journal, in this machine's byte order. Shared by the modules that read and write journals.

Supervisors of other versions on this machine read the file too, so its name and magic bytes stay the same.

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

RECORD_JOBS = 1000
"""Most jobs that one worker may have dispatched without their outcome on disk."""

MAGIC, OLD_MAGIC = b"mpdmark3", b"mpdmark2"
"""Supervisors of schema version 1 wrote the old one and may still run. Their files have every record from the start."""
HEADER = struct.Struct("<8s36s32s")  # magic, boot id, token
USED_AT = 80
USED = struct.Struct("@Q")  # records handed out so far, plus 1: a truncated header reads as 0
PAGE = 4096
REPLIES_AT = 32768
RECORD_BYTES = REPLIES_AT + REPLY_RING_BYTES
HEAD = struct.Struct("@qqQ")  # pid, start, marks written
CONTROL = struct.Struct("@QII")  # job id, starts, what
MARK = struct.Struct("@QQQQ")  # job id, starts, boottime µs, check
CHECK = 0x9E3779B97F4A7C15
"""XORed with the other three fields to detect a torn mark (a CRC would cost 0.7 µs more per job)."""
SHIFT = 31
"""Moves `starts` above the bits of the first two billion job ids, so that changes in both cannot cancel out."""
RECORD_MAGIC = b"mpd-ring"
COUNT_AT, RECORD_MAGIC_AT, CONTROL_AT, MARKS_AT = 16, 24, 64, 96
CLEAN = (bytes(RECORD_MAGIC_AT) + RECORD_MAGIC).ljust(REPLIES_AT, b"\0")
"""Initial bytes of a record, written in one piece because another process may be reading."""
WORD_BYTES = 8
MARKS = 1020
MARK_BYTES = 32

assert MARKS_AT + MARKS * MARK_BYTES <= REPLIES_AT


class Mark(NamedTuple):
    job_id: int
    starts: int
    started_boot_us: int


class Control(NamedTuple):
    """The supervisor's request to end one running start: `kind` 1 = timeout, 2 = cancel."""

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

"""Reads the start journal of another supervisor. Every call reads the file anew. Any process.

The file is not mapped: truncating it meanwhile yields fewer records and never a SIGBUS. Only records that were handed
out are read, one at a time; checking whether the owner lives reads none.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from mpdispatch.host.journal_layout import (
    CONTROL,
    CONTROL_AT,
    HEAD,
    HEADER,
    MAGIC,
    MARK_BYTES,
    MARKS,
    MARKS_AT,
    OLD_MAGIC,
    PAGE,
    RECORD_BYTES,
    RECORD_MAGIC,
    RECORD_MAGIC_AT,
    REPLIES_AT,
    USED,
    USED_AT,
    WORD_BYTES,
    Control,
    Mark,
    base_of,
    unpacked,
)
from mpdispatch.host.processes import ProcessId
from mpdispatch.host.reply_ring import last_lines
from mpdispatch.ids import boot_id
from mpdispatch.private import open_private


class JournalReader:
    """The journal of one supervisor, which may be dead, stopped or running."""

    def __init__(self, path: Path) -> None:
        """Raises FileNotFoundError if the supervisor has no journal."""
        self._descriptor = open_private(path, os.O_RDWR)
        header = os.pread(self._descriptor, USED_AT + USED.size, 0)
        self._has_header = len(header) == USED_AT + USED.size and header[:8] in (MAGIC, OLD_MAGIC)
        self._is_old = header[:8] == OLD_MAGIC
        _, self._boot, token = HEADER.unpack_from(header) if self._has_header else (b"", b"", b"")
        self.token = token.rstrip(b"\0").decode("ascii", "replace")
        """The prefix of its workers' WORKER_VARIABLE; `""` if unknown."""

    def close(self) -> None:
        os.close(self._descriptor)

    @property
    def is_evidence(self) -> bool:
        """Whether the file was written in this boot and is complete; otherwise every job counts as started."""
        is_of_this_boot = self._boot.rstrip(b"\0") == boot_id().encode()[:36]
        return self._has_header and is_of_this_boot and self._is_whole()

    def _is_whole(self) -> bool:
        if self._is_old:
            return True
        used = self._handed_out()
        if not 0 <= used <= self._there():
            return False
        spots = (base_of(index) + RECORD_MAGIC_AT for index in range(used))
        return all(os.pread(self._descriptor, len(RECORD_MAGIC), spot) == RECORD_MAGIC for spot in spots)

    def _there(self) -> int:
        """Number of records that fit into the file's length."""
        return max(0, os.fstat(self._descriptor).st_size - PAGE) // RECORD_BYTES

    def _handed_out(self) -> int:
        """Number of records handed out; -1 if the header was truncated."""
        if not self._has_header:
            return -1
        if self._is_old:
            return self._there()
        # Read again: the owner may be handing out records meanwhile.
        used = os.pread(self._descriptor, USED.size, USED_AT)
        return int(USED.unpack(used)[0]) - 1 if len(used) == USED.size else -1

    @property
    def is_ours(self) -> bool:
        """Whether only our own user (or root) can have written the file."""
        found = os.fstat(self._descriptor)
        return found.st_uid == os.geteuid() and not found.st_mode & 0o022

    @property
    def identity(self) -> tuple[int, int]:
        """(device, inode) of the file, to find the processes that have it mapped."""
        found = os.fstat(self._descriptor)
        return found.st_dev, found.st_ino

    def owner_is_gone(self) -> bool:
        """Whether the file's lock is free. The kernel releases it with the last process that held it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return True

    def _records(self, length: int) -> Iterator[tuple[int, bytes]]:
        """(offset, first `length` bytes) of every complete record, one at a time."""
        for index in range(min(self._handed_out(), self._there())):
            base = base_of(index)
            if len(data := os.pread(self._descriptor, length, base)) == length:
                yield base, data

    def look(
        self, wanted: Set[tuple[int, int]] | None = None
    ) -> Iterator[tuple[dict[tuple[int, int], int], Control, list[bytes]]]:
        """Per record: its marked starts with their boottime (µs), the supervisor's last request, and the worker's
        replies that are surely complete, oldest first.

        `wanted`: the starts that matter (None: all). Records that have marks but none of these are skipped.
        """
        ids = None if wanted is None else {job_id for job_id, _ in wanted}
        for _, data in self._records(RECORD_BYTES):
            slots = _slots_of(ids, data)
            if not slots and _has_marks(data):
                continue
            marks = {
                mark[:2]: mark.started_boot_us
                for slot in slots
                if (mark := unpacked(data, MARKS_AT + slot * MARK_BYTES)) is not None
                and (wanted is None or mark[:2] in wanted)
            }
            yield marks, Control(*CONTROL.unpack_from(data, CONTROL_AT)), last_lines(data[REPLIES_AT:])

    def latest(self) -> dict[ProcessId, Mark | None]:
        """The last start of each worker that signed a record here; None: it has started no job."""
        found: dict[ProcessId, Mark | None] = {}
        for base, head in self._records(HEAD.size):
            pid, start, count = HEAD.unpack(head)
            if pid:
                slot = base + MARKS_AT + ((count - 1) % MARKS) * MARK_BYTES
                mark = os.pread(self._descriptor, MARK_BYTES, slot) if count else b""
                found[ProcessId(pid, start)] = unpacked(mark, 0) if len(mark) == MARK_BYTES else None
        return found

    def workers(self) -> list[ProcessId]:
        """The last worker process that signed each record."""
        heads = (HEAD.unpack(head) for _, head in self._records(HEAD.size))
        return [ProcessId(pid, start) for pid, start, _ in heads if pid]


def _has_marks(record: bytes) -> bool:
    return bool(HEAD.unpack_from(record)[2])


def _slots_of(ids: Set[int] | None, record: bytes) -> Sequence[int]:
    """The slots with marks, torn ones too, of these jobs (None: all slots)."""
    if ids is None:
        return range(MARKS)
    # Compare only the job ids: unpacking all marks takes twenty times as long.
    return [slot for slot, job_id in enumerate(_marked_ids(record)) if job_id in ids]


def _marked_ids(record: bytes) -> list[int]:
    """The job ids in all slots, including torn marks."""
    return (
        memoryview(record)[MARKS_AT : MARKS_AT + MARKS * MARK_BYTES]
        .cast("Q")[:: MARK_BYTES // WORD_BYTES]
        .tolist()
    )

"""One worker's record in a start journal: the worker writes marks, the supervisor the control word. Both sides."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from mpdispatch.host.journal_layout import (
    CHECK,
    CLEAN,
    CONTROL,
    CONTROL_AT,
    COUNT_AT,
    HEAD,
    MARK,
    MARK_BYTES,
    MARKS,
    MARKS_AT,
    RECORD_BYTES,
    REPLIES_AT,
    SHIFT,
    WORD_BYTES,
    Control,
    Mark,
    base_of,
    unpacked,
)
from mpdispatch.host.processes import process_id
from mpdispatch.host.reply_ring import ReplyRingReader, ReplyRingWriter, Words
from mpdispatch.private import open_private


class WorkerRecord:
    """Worker and supervisor both map it, and both may read it."""

    __slots__ = ("_base", "_count", "_count_word", "_map", "_words", "index")

    def __init__(self, mapping: mmap.mmap, words: Words, index: int, *, mapped_from: int = 0) -> None:
        """`words`: the same memory as words. `mapped_from`: offset of the mapping in the file."""
        self._map, self._words, self.index = mapping, words, index
        self._base = base_of(index) - mapped_from
        self._count_word = (self._base + COUNT_AT) // WORD_BYTES
        self._count = 0

    @classmethod
    def attach(cls, path: str, index: int) -> WorkerRecord:
        """In the worker: map the file and sign the record with our pid."""
        descriptor = open_private(Path(path), os.O_RDWR)
        # Map only this record: a large file would exceed a job's limit on address space.
        base = base_of(index)
        start = base - base % mmap.ALLOCATIONGRANULARITY
        try:
            mapping = mmap.mmap(descriptor, base + RECORD_BYTES - start, offset=start)
        finally:
            os.close(descriptor)
        record = cls(mapping, memoryview(mapping).cast("Q"), index, mapped_from=start)
        me = process_id()
        HEAD.pack_into(mapping, record._base, me.pid, me.start, 0)
        return record

    def clear(self) -> None:
        """Prepare the record for a new worker. Only when the outcome of every job of the last worker is on disk."""
        self._map[self._base : self._base + REPLIES_AT] = CLEAN

    def is_signed(self) -> bool:
        """Whether a worker has mapped the record. A worker reads no job before that."""
        return bool(HEAD.unpack_from(self._map, self._base)[0])

    def reply_ring(self) -> ReplyRingReader:
        """In the supervisor: an empty ring for the new worker's replies."""
        return ReplyRingReader(self._map, self._words, self._base + REPLIES_AT)

    def reply_writer(self) -> ReplyRingWriter:
        """In the worker: the writing side of its replies."""
        return ReplyRingWriter(self._map, self._words, self._base + REPLIES_AT)

    def write(self, job_id: int, starts: int, boot_us: int) -> None:
        """Mark a start. The count is written last: a mark beyond the count is incomplete."""
        at = self._base + MARKS_AT + (self._count % MARKS) * MARK_BYTES
        check = job_id ^ starts << SHIFT ^ boot_us ^ CHECK
        MARK.pack_into(self._map, at, job_id, starts, boot_us, check)
        self._count += 1
        self._words[self._count_word] = self._count

    def add(self, job_id: int, starts: int, boot_us: int) -> None:
        """In the supervisor: mark a start on the worker's behalf, after the existing marks."""
        self._count = self._words[self._count_word]
        self.write(job_id, starts, boot_us)

    def is_in(self, mapping: mmap.mmap) -> bool:
        return self._map is mapping

    def last(self) -> Mark | None:
        """The newest mark: the job that the worker runs or ran last."""
        count = self._words[self._count_word]
        if count == 0:
            return None
        return unpacked(self._map, self._base + MARKS_AT + ((count - 1) % MARKS) * MARK_BYTES)

    def has(self, job_id: int, starts: int) -> bool:
        """Whether exactly this start is marked."""
        for slot in range(MARKS):
            mark = unpacked(self._map, self._base + MARKS_AT + slot * MARK_BYTES)
            if mark is not None and mark[:2] == (job_id, starts):
                return True
        return False

    def ask(self, control: Control) -> None:
        CONTROL.pack_into(self._map, self._base + CONTROL_AT, *control)

    def asked(self) -> Control:
        return Control(*CONTROL.unpack_from(self._map, self._base + CONTROL_AT))

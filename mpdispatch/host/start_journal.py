"""Start marks: which jobs had really been started, readable after everybody died. Both sides.

One small mmapped file per supervisor, one record per worker. Before a handler is called, the worker writes
(job id, starts, boottime) into its record; the page cache keeps it whatever kills the process. A rescuer on the same boot
reads it: a claimed job not named there never started and gets its attempt refunded.

The file is a hole but for its header and the records in use: what it costs follows the workers that live. A record
that is given back keeps its blocks until the next `trim`, and a few for good, so a worker can be replaced on a full disk.

A record holds 1020 marks, and the supervisor never lets a worker have more jobs whose outcome is not on disk than
`RECORD_JOBS`, so a mark that matters is never overwritten. A mark torn by a kill is ignored: its handler was not called
yet. After a host crash the file proves nothing (another boot id): every job counts as started. So it does
if it was cut, or any of it was lost: then a record that was handed out does not begin as it should.

The supervisor holds a `flock` on the file as long as it lives: that is how peers in other containers of this host know.

Layout, in this machine's byte order: page 0 = header (magic, boot id, token, records handed out so far); then records of
96 KiB: 64 bytes of head, 32 of control, 1020 marks of 32 bytes, and the worker's replies (see `reply_ring`) in 64 KiB.
Who comes after reads it with `journal_reader`; what all of it proves is in `recovered`.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mpdispatch.host.processes import process_id
from mpdispatch.host.reply_ring import REPLY_RING_BYTES, ReplyRingReader, ReplyRingWriter, Words
from mpdispatch.ids import boot_id
from mpdispatch.private import open_private

__all__ = ["RECORD_JOBS", "Control", "Journal", "Mark", "WorkerRecord", "journal_path"]

RECORD_JOBS = 1000
"""Most jobs of one worker that are dispatched and whose outcome is not on disk."""

_MAGIC, _OLD_MAGIC = b"mpdmark3", b"mpdmark2"
"""The old one is that of schema version 1, whose supervisors may still run: every record was there from the start."""
_HEADER = struct.Struct("<8s36s32s")  # magic, boot id, token
_USED_AT = 80
_USED = struct.Struct("@Q")  # records handed out so far, and 1: a header that was cut says 0
_PAGE = 4096
_REPLIES_AT = 32768
_RING = _REPLIES_AT + REPLY_RING_BYTES
_HEAD = struct.Struct("@qqQ")  # pid, start, marks written
_CONTROL = struct.Struct("@QII")  # job id, starts, what
_MARK = struct.Struct("@QQQQ")  # job id, starts, boottime µs, check
_CHECK = 0x9E3779B97F4A7C15
"""Folded with the other three: a torn mark does not add up (a CRC would cost 0.7 µs more a job)."""
_SHIFT = 31
"""Past the ids of a store's first two billion jobs: else starts and id of two marks may differ by the same bits."""
_RING_MAGIC = b"mpd-record"
_COUNT_AT, _RING_MAGIC_AT, _CONTROL_AT, _MARKS_AT = 16, 24, 64, 96
_CLEAN = (bytes(_RING_MAGIC_AT) + _RING_MAGIC).ljust(_REPLIES_AT, b"\0")
"""What a record begins with; written at once, for somebody may be reading."""
_HELD_PER_SPARE = 8
"""One free record keeps its blocks, and one more for every eight in use."""
_TRIM_AT_ONCE = 32
_WORD_BYTES = 8
_MARKS = 1020
_MARK_BYTES = 32

assert _MARKS_AT + _MARKS * _MARK_BYTES <= _REPLIES_AT


class Mark(NamedTuple):
    job_id: int
    starts: int
    started_boot_us: int


class Control(NamedTuple):
    """What the supervisor wants done to one running start: `kind` 1 = timeout, 2 = cancel."""

    job_id: int
    starts: int
    kind: int


def journal_path(folder: Path, owner: int) -> Path:
    """The file of this supervisor in the store's runtime folder."""
    return folder / f"journal.{owner}"


def _base_of(index: int) -> int:
    return _PAGE + index * _RING


def _unpack(data: bytes | mmap.mmap, at: int) -> Mark | None:
    job_id, starts, boot_us, check = _MARK.unpack_from(data, at)
    if job_id == 0 or check != job_id ^ starts << _SHIFT ^ boot_us ^ _CHECK:
        return None
    return Mark(job_id, starts, boot_us)


class WorkerRecord:
    """One worker's record. The worker writes marks, the supervisor writes the control word; either may read."""

    __slots__ = ("_base", "_count", "_count_word", "_map", "_words", "index")

    def __init__(self, mapping: mmap.mmap, words: Words, index: int, *, mapped_from: int = 0) -> None:
        """`words`: the same memory, as words. `mapped_from`: where in the file the mapping begins."""
        self._map, self._words, self.index = mapping, words, index
        self._base = _base_of(index) - mapped_from
        self._count_word = (self._base + _COUNT_AT) // _WORD_BYTES
        self._count = 0

    @classmethod
    def attach(cls, path: str, index: int) -> WorkerRecord:
        """In the worker: map the file and sign the record with our pid."""
        descriptor = open_private(Path(path), os.O_RDWR)
        # Its own only: the whole of a large file would not fit into a job's limit of address space.
        base = _base_of(index)
        start = base - base % mmap.ALLOCATIONGRANULARITY
        try:
            mapping = mmap.mmap(descriptor, base + _RING - start, offset=start)
        finally:
            os.close(descriptor)
        record = cls(mapping, memoryview(mapping).cast("Q"), index, mapped_from=start)
        me = process_id()
        _HEAD.pack_into(mapping, record._base, me.pid, me.start, 0)
        return record

    def clear(self) -> None:
        """Make it ready for a new worker. Only when every job of the last one is settled on disk."""
        self._map[self._base : self._base + _REPLIES_AT] = _CLEAN

    def is_signed(self) -> bool:
        """Whether a worker has mapped it: before that it reads no job."""
        return bool(_HEAD.unpack_from(self._map, self._base)[0])

    def reply_ring(self) -> ReplyRingReader:
        """In the supervisor: an empty box for what the new worker will say."""
        return ReplyRingReader(self._map, self._words, self._base + _REPLIES_AT)

    def reply_writer(self) -> ReplyRingWriter:
        """In the worker."""
        return ReplyRingWriter(self._map, self._words, self._base + _REPLIES_AT)

    def write(self, job_id: int, starts: int, boot_us: int) -> None:
        """Mark a start. The count is written last: a mark it does not cover was never completed."""
        at = self._base + _MARKS_AT + (self._count % _MARKS) * _MARK_BYTES
        check = job_id ^ starts << _SHIFT ^ boot_us ^ _CHECK
        _MARK.pack_into(self._map, at, job_id, starts, boot_us, check)
        self._count += 1
        self._words[self._count_word] = self._count

    def add(self, job_id: int, starts: int, boot_us: int) -> None:
        """In the supervisor: mark a start on its worker's behalf, behind those that are there."""
        self._count = self._words[self._count_word]
        self.write(job_id, starts, boot_us)

    def is_in(self, mapping: mmap.mmap) -> bool:
        return self._map is mapping

    def last(self) -> Mark | None:
        """The newest mark: what the worker runs now, or ran last."""
        count = self._words[self._count_word]
        if count == 0:
            return None
        return _unpack(self._map, self._base + _MARKS_AT + ((count - 1) % _MARKS) * _MARK_BYTES)

    def has(self, job_id: int, starts: int) -> bool:
        """Whether this very start is marked."""
        for slot in range(_MARKS):
            mark = _unpack(self._map, self._base + _MARKS_AT + slot * _MARK_BYTES)
            if mark is not None and mark[:2] == (job_id, starts):
                return True
        return False

    def ask(self, control: Control) -> None:
        _CONTROL.pack_into(self._map, self._base + _CONTROL_AT, *control)

    def asked(self) -> Control:
        return Control(*_CONTROL.unpack_from(self._map, self._base + _CONTROL_AT))


class Journal:
    """The supervisor's own file: makes it, holds its lock, hands out records.

    It has room for every worker that may live and as many whose last outcomes are still on their way to disk.
    """

    def __init__(self, path: Path, records: int, *, token: str) -> None:
        """`token` is what the marks of this supervisor's workers begin with (see kill.WORKER_VARIABLE).

        Raises OSError: no room on the disk, no descriptor left; then there is no file either.
        """
        self.path, self._token = path, token
        self._records, self._size = records, _base_of(records)
        self._used = 0
        """How many records were ever handed out; they are handed out in order."""
        self._spare, self._hollow = list[int](), list[int]()
        """Records that were given back: with their blocks, and without."""
        self._held = dict[int, WorkerRecord]()
        self.no_room: OSError | None = None
        """Why the last `take_record` gave none, if the disk was full."""
        self._map: mmap.mmap
        self._words: Words
        self._descriptor = self._make()
        self._write_header()

    def _make(self) -> int:
        """Make the file, lock and map it; gives its descriptor."""
        descriptor = open_private(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, self._size)
            _allocate(descriptor, 0, _PAGE)
            self._map = mmap.mmap(descriptor, self._size)
            self._words = memoryview(self._map).cast("Q")
        except OSError:
            os.close(descriptor)
            self.path.unlink()
            raise
        return descriptor

    def _write_header(self) -> None:
        # The number of records first: what has no magic yet proves nothing.
        _USED.pack_into(self._map, _USED_AT, self._used + 1)
        _HEADER.pack_into(self._map, 0, _MAGIC, boot_id().encode()[:36], self._token.encode()[:32])

    # -- records ----------------------------------------------------------------------------------------

    def take_record(self) -> WorkerRecord | None:
        """A clean record for a new worker, or None: every record still guards something unsettled, or `no_room`."""
        self.no_room = None
        if self._spare:
            index = self._spare.pop()
        else:
            index = self._hollow[-1] if self._hollow else self._used
            if index == self._records:
                return None
            try:
                _allocate(self._descriptor, _base_of(index), _RING)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                self.no_room = error
                return None
            if self._hollow:
                self._hollow.pop()
        record = WorkerRecord(self._map, self._words, index)
        record.clear()
        if index == self._used:
            # Last, for a reader expects every record below this number to be whole.
            self._used = index + 1
            _USED.pack_into(self._map, _USED_AT, self._used + 1)
        self._held[index] = record
        return record

    def give_back(self, record: WorkerRecord) -> None:
        """Every job that was ever sent to this record's worker is settled on disk."""
        del self._held[record.index]
        self._spare.append(record.index)

    def trim(self) -> None:
        """Give blocks of free records back to the disk, a few at a time: one costs 0.05 to 0.2 ms."""
        from mpdispatch.host.linux import punch_hole  # ctypes, which no reader of a journal needs

        too_many = len(self._spare) - 1 - len(self._held) // _HELD_PER_SPARE
        for _ in range(min(too_many, _TRIM_AT_ONCE)):
            # Its first page stays: a reader looks for how a record begins.
            if not punch_hole(self._descriptor, _base_of(self._spare[0]) + _PAGE, _RING - _PAGE):
                return
            self._hollow.append(self._spare.pop(0))

    # -- what may happen to the file ------------------------------------------------------------------

    def is_cut(self) -> bool:
        """Whether somebody has made the file shorter: to touch what is mapped behind its end is a SIGBUS.

        Cheap enough to ask before every look into it (0.5 µs).
        """
        return os.lseek(self._descriptor, 0, os.SEEK_END) < self._size

    def mend(self) -> None:
        """Make a file that was cut long enough to be touched again, and let nobody believe it: what was cut is lost."""
        self.path.unlink(missing_ok=True)
        os.ftruncate(self._descriptor, self._size)

    def is_in_place(self) -> bool:
        """Whether the path still leads to this file: nobody has removed it, or its folder."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.lstat(self.path))
        except OSError:
            return False

    def remake(self, begun: Iterable[tuple[WorkerRecord, int, int, int]]) -> None:
        """Make the file anew where it should be, with all that the records in use prove so far.

        Their workers still write into the old one, which nobody finds any more: let them begin nothing else.
        `begun`: (record, job id, starts, boottime µs) of what they hold, for they may be about to mark that.

        Raises OSError; then the old one is still in use.
        """
        old_map, old_words, old_descriptor = self._map, self._words, self._descriptor
        self.path.unlink(missing_ok=True)  # of whoever it is: the folder is ours
        try:
            descriptor = self._make()
            try:
                for index in self._held:
                    _allocate(descriptor, base := _base_of(index), _RING)
                    self._map[base : base + _RING] = old_map[base : base + _RING]
                # Those handed out before and free now: empty, but whole.
                free = [*self._spare, *self._hollow]
                for index in free:
                    _allocate(descriptor, base := _base_of(index), _PAGE)
                    self._map[base : base + _PAGE] = _CLEAN[:_PAGE]
            except OSError:
                os.close(descriptor)
                self.path.unlink(missing_ok=True)
                raise
        except OSError:
            self._map, self._words = old_map, old_words
            raise
        self._descriptor = descriptor
        self._spare, self._hollow = [], free
        for record, *start in begun:
            WorkerRecord(self._map, self._words, record.index).add(*start)
        self._write_header()
        # Not unmapped: the records in use are views of it.
        os.close(old_descriptor)

    def is_of_this_file(self, record: WorkerRecord) -> bool:
        """Whether a reader of the file sees what is written into this record: not if it was made before `remake`."""
        return record.is_in(self._map)

    def close(self, *, remove: bool) -> None:
        if remove:
            self.path.unlink(missing_ok=True)
        self._held.clear()
        self._words.release()
        self._map.close()
        os.close(self._descriptor)


def _allocate(descriptor: int, start: int, length: int) -> None:
    """Have these bytes on disk: without their blocks a mark written on a full disk would be a SIGBUS, in workers too."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, start, length)

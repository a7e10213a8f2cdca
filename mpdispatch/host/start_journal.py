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

How it lies in the file is in `journal_layout`, what a worker and its supervisor do with a record in `worker_record`. Who
comes after reads it with `journal_reader`; what all of it proves is in `recovered`.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterable
from pathlib import Path

from mpdispatch.host.journal_layout import (
    CLEAN,
    HEADER,
    MAGIC,
    PAGE,
    RECORD_BYTES,
    RECORD_JOBS,
    USED,
    USED_AT,
    Control,
    Mark,
    base_of,
)
from mpdispatch.host.reply_ring import Words
from mpdispatch.host.worker_record import WorkerRecord
from mpdispatch.ids import boot_id
from mpdispatch.private import open_private

__all__ = ["RECORD_JOBS", "Control", "Journal", "Mark", "WorkerRecord", "journal_path"]

_HELD_PER_SPARE = 8
"""One free record keeps its blocks, and one more for every eight in use."""
_TRIM_AT_ONCE = 32


def journal_path(folder: Path, owner: int) -> Path:
    """The file of this supervisor in the store's runtime folder.

    Its name stays what it was: supervisors of older versions are judged by theirs, and judge by ours.
    """
    return folder / f"marks.{owner}"


class Journal:
    """The supervisor's own file: makes it, holds its lock, hands out records.

    It has room for every worker that may live and as many whose last outcomes are still on their way to disk.
    """

    def __init__(self, path: Path, records: int, *, token: str) -> None:
        """`token` is what the marks of this supervisor's workers begin with (see kill.WORKER_VARIABLE).

        Raises OSError: no room on the disk, no descriptor left; then there is no file either.
        """
        self.path, self._token = path, token
        self._records, self._size = records, base_of(records)
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
        descriptor = open_private(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, create_folder=True)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, self._size)
            _allocate(descriptor, 0, PAGE)
            self._map = mmap.mmap(descriptor, self._size)
            self._words = memoryview(self._map).cast("Q")
        except OSError:
            os.close(descriptor)
            self.path.unlink()
            raise
        return descriptor

    def _write_header(self) -> None:
        # The number of records first: what has no magic yet proves nothing.
        USED.pack_into(self._map, USED_AT, self._used + 1)
        HEADER.pack_into(self._map, 0, MAGIC, boot_id().encode()[:36], self._token.encode()[:32])

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
                _allocate(self._descriptor, base_of(index), RECORD_BYTES)
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
            USED.pack_into(self._map, USED_AT, self._used + 1)
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
            if not punch_hole(self._descriptor, base_of(self._spare[0]) + PAGE, RECORD_BYTES - PAGE):
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
                    _allocate(descriptor, base := base_of(index), RECORD_BYTES)
                    self._map[base : base + RECORD_BYTES] = old_map[base : base + RECORD_BYTES]
                # Those handed out before and free now: empty, but whole.
                free = [*self._spare, *self._hollow]
                for index in free:
                    _allocate(descriptor, base := base_of(index), PAGE)
                    self._map[base : base + PAGE] = CLEAN[:PAGE]
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

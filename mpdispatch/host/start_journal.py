"""Start marks record which jobs really started, readable after every process has died. Both sides.

One small mmapped file per supervisor, one record per worker. Before a handler is called, the worker writes
(job id, starts, boottime) into its record; the page cache keeps it whatever kills the process. A rescuer in the same boot
reads it: a claimed job not named there never started and gets its attempt refunded.

The file is sparse: only its header and the records in use take disk blocks. A freed record keeps its blocks until the
next `trim`; a few records keep them for good, so a worker can be replaced on a full disk.

A record holds 1020 marks, and a worker never has more than `RECORD_JOBS` jobs whose outcome is not on disk, so a mark
that matters is never overwritten. A mark torn by a kill is ignored: its handler was not called yet. After a host crash
(another boot id) the file proves nothing and every job counts as started. The same holds if the file was truncated or
partly lost: then a record that was handed out lacks its magic bytes.

The supervisor holds a `flock` on the file while it lives; supervisors in other containers of this host check it.
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
    USED,
    USED_AT,
    base_of,
)
from mpdispatch.host.reply_ring import Words
from mpdispatch.host.runtime_folder import leads_to
from mpdispatch.host.worker_record import WorkerRecord
from mpdispatch.ids import boot_id
from mpdispatch.private import open_private

_HELD_PER_SPARE = 8
"""`trim` leaves one free record with its blocks, and one more for every eight in use."""
_TRIM_AT_ONCE = 32


def journal_path(folder: Path, owner: int) -> Path:
    """The file of this supervisor in the store's runtime folder.

    The name must not change: supervisors of other versions read each other's files.
    """
    return folder / f"marks.{owner}"


class Journal:
    """The supervisor's own journal: creates the file, holds its lock, hands out records.

    It has room for all workers, and for as many that are gone but whose last outcomes are not on disk yet.
    """

    def __init__(self, path: Path, records: int, *, token: str) -> None:
        """`token` is the prefix of this supervisor's workers' tag (see kill.WORKER_VARIABLE).

        Raises OSError, and leaves no file, if there is no room on the disk or no descriptor left.
        """
        self.path, self._token = path, token
        self._records, self._size = records, base_of(records)
        self._used = 0
        """Number of records ever handed out, in order."""
        self._spare, self._hollow = list[int](), list[int]()
        """Free records with their disk blocks, and without."""
        self._held = dict[int, WorkerRecord]()
        self.no_room: OSError | None = None
        """The error if the last `take_record` returned None because the disk was full."""
        self._map: mmap.mmap
        self._words: Words
        self._descriptor = self._make()
        self._write_header()

    def _make(self) -> int:
        """Create, lock and map the file. Returns its descriptor."""
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
        # The number of records first: a file without magic is not evidence yet.
        USED.pack_into(self._map, USED_AT, self._used + 1)
        HEADER.pack_into(self._map, 0, MAGIC, boot_id().encode()[:36], self._token.encode()[:32])

    def take_record(self) -> WorkerRecord | None:
        """A clean record for a new worker. None: the disk is full (`no_room`), or each record has a worker or unwritten
        outcomes."""
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
            # Last: a reader expects every record below this number to be whole.
            self._used = index + 1
            USED.pack_into(self._map, USED_AT, self._used + 1)
        self._held[index] = record
        return record

    def give_back(self, record: WorkerRecord) -> None:
        """Free the record. Only when the outcome of every job sent to its worker is on disk."""
        del self._held[record.index]
        self._spare.append(record.index)

    def trim(self) -> None:
        """Free the disk blocks of free records, at most 32 per call: each costs 0.05 to 0.2 ms."""
        from mpdispatch.host.linux import punch_hole  # loads ctypes, which no reader of a journal needs

        too_many = len(self._spare) - 1 - len(self._held) // _HELD_PER_SPARE
        for _ in range(min(too_many, _TRIM_AT_ONCE)):
            # Keep the first page: a reader checks the magic bytes in it.
            if not punch_hole(self._descriptor, base_of(self._spare[0]) + PAGE, RECORD_BYTES - PAGE):
                return
            self._hollow.append(self._spare.pop(0))

    def is_cut(self) -> bool:
        """Whether the file was truncated: accessing mapped memory beyond its end raises SIGBUS.

        Cheap enough to check before every access (0.5 µs).
        """
        return os.lseek(self._descriptor, 0, os.SEEK_END) < self._size

    def mend(self) -> None:
        """Restore a truncated file's length to make access safe, and unlink it: it no longer proves anything."""
        self.path.unlink(missing_ok=True)
        os.ftruncate(self._descriptor, self._size)

    def is_in_place(self) -> bool:
        return leads_to(self.path, self._descriptor)

    def remake(self, begun: Iterable[tuple[WorkerRecord, int, int, int]]) -> None:
        """Create the file again at its path, with the content of the records in use.

        Their workers still write into the old file, which readers no longer find: send those workers no more jobs.
        `begun`: (record, job id, starts, boottime µs) of jobs the workers have, as they may be about to mark them.

        Raises OSError; the old file then stays in use.
        """
        old_map, old_words, old_descriptor = self._map, self._words, self._descriptor
        self.path.unlink(missing_ok=True)  # whoever made it: the folder is ours
        try:
            descriptor = self._make()
            try:
                for index in self._held:
                    _allocate(descriptor, base := base_of(index), RECORD_BYTES)
                    self._map[base : base + RECORD_BYTES] = old_map[base : base + RECORD_BYTES]
                # Records that were handed out before and are free now: empty, but whole.
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
        """Whether readers of the file see this record. False for a record made before `remake`."""
        return record.is_in(self._map)

    def close(self, *, remove: bool) -> None:
        if remove:
            self.path.unlink(missing_ok=True)
        self._held.clear()
        self._words.release()
        self._map.close()
        os.close(self._descriptor)


def _allocate(descriptor: int, start: int, length: int) -> None:
    """Allocate disk blocks for these bytes: otherwise writing a mark on a full disk is a SIGBUS, in workers too."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, start, length)

"""Start marks: which jobs had really been started, readable after everybody died. Both sides.

One small mmapped file per supervisor, one ring per worker. Before a handler is called, the worker writes
(job id, starts, boottime) into its ring; the page cache keeps it whatever kills the process. A rescuer on the same boot
reads it: a claimed job not named there never started and gets its attempt refunded.

A ring holds 1020 marks, and the supervisor never lets a worker have more jobs whose outcome is not on disk than
`RING_JOBS`, so a mark that matters is never overwritten. A mark that was torn by a kill is one whose handler was not called
yet: it is ignored. After a host crash the file proves nothing (another boot id): every job counts as started.

The supervisor holds a `flock` on the file as long as it lives: that is how peers in other containers of this host know.

Layout, in this machine's byte order: page 0 = header; then rings of 96 KiB: 64 bytes of head, 32 of control, 1020 marks of
32 bytes, and the worker's outbox (see `outbox`) in the last 64 KiB. What all of it proves is in `evidence`.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mpdispatch.ids import ProcessId, boot_id, process_id
from mpdispatch.pool.outbox import OUTBOX_BYTES, OutboxReader, OutboxWriter, Words, last_lines
from mpdispatch.private import open_private

__all__ = ["RING_JOBS", "Control", "Mark", "MarkFile", "MarkReader", "Ring", "marks_path"]

RING_JOBS = 1000
"""Most jobs of one worker that are dispatched and whose outcome is not on disk."""

_MAGIC = b"mpdmark2"
_HEADER = struct.Struct("<8s36s32s")  # magic, boot id, token
_PAGE = 4096
_BOX_AT = 32768
_RING = _BOX_AT + OUTBOX_BYTES
_HEAD = struct.Struct("@qqQ")  # pid, start, marks written
_CONTROL = struct.Struct("@QII")  # job id, starts, what
_MARK = struct.Struct("@QQQQ")  # job id, starts, boottime µs, check
_CHECK = 0x9E3779B97F4A7C15
"""Folded with the other three: a torn mark does not add up (a CRC would cost 0.7 µs more a job)."""
_SHIFT = 31
"""Past the ids of a store's first two billion jobs: else starts and id of two marks may differ by the same bits."""
_COUNT_AT, _CONTROL_AT, _MARKS_AT = 16, 64, 96
_WORD_BYTES = 8
_MARKS = 1020
_MARK_BYTES = 32

assert _MARKS_AT + _MARKS * _MARK_BYTES <= _BOX_AT


class Mark(NamedTuple):
    job_id: int
    starts: int
    started_boot_us: int


class Control(NamedTuple):
    """What the supervisor wants done to one running start: `kind` 1 = timeout, 2 = cancel."""

    job_id: int
    starts: int
    kind: int


def marks_path(side_dir: Path, owner: int) -> Path:
    return side_dir / f"marks.{owner}"


def _unpack(data: memoryview | mmap.mmap, at: int) -> Mark | None:
    job_id, starts, boot_us, check = _MARK.unpack_from(data, at)
    if job_id == 0 or check != job_id ^ starts << _SHIFT ^ boot_us ^ _CHECK:
        return None
    return Mark(job_id, starts, boot_us)


class Ring:
    """One worker's ring. The worker writes marks, the supervisor writes the control word; either may read."""

    __slots__ = ("_base", "_count", "_count_word", "_map", "_words", "index")

    def __init__(self, mapping: mmap.mmap, words: Words, index: int) -> None:
        """`words`: the same memory, as words."""
        self._map, self._words, self.index = mapping, words, index
        self._base = _PAGE + index * _RING
        self._count_word = (self._base + _COUNT_AT) // _WORD_BYTES
        self._count = 0

    @classmethod
    def attach(cls, path: str, index: int) -> Ring:
        """In the worker: map the file and sign the ring with our pid."""
        descriptor = open_private(Path(path), os.O_RDWR)
        try:
            mapping = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)
        ring = cls(mapping, memoryview(mapping).cast("Q"), index)
        me = process_id()
        _HEAD.pack_into(mapping, ring._base, me.pid, me.start, 0)
        return ring

    def clear(self) -> None:
        """Make it ready for a new worker. Only when every job of the last one is settled on disk."""
        self._map[self._base : self._base + _BOX_AT] = bytes(_BOX_AT)

    def is_signed(self) -> bool:
        """Whether a worker has mapped it: before that it reads no job."""
        return bool(_HEAD.unpack_from(self._map, self._base)[0])

    def outbox(self) -> OutboxReader:
        """In the supervisor: an empty box for what the new worker will say."""
        return OutboxReader(self._map, self._words, self._base + _BOX_AT)

    def outbox_to_fill(self) -> OutboxWriter:
        """In the worker."""
        return OutboxWriter(self._map, self._words, self._base + _BOX_AT)

    def write(self, job_id: int, starts: int, boot_us: int) -> None:
        """Mark a start. The count is written last: a mark it does not cover was never completed."""
        at = self._base + _MARKS_AT + (self._count % _MARKS) * _MARK_BYTES
        check = job_id ^ starts << _SHIFT ^ boot_us ^ _CHECK
        _MARK.pack_into(self._map, at, job_id, starts, boot_us, check)
        self._count += 1
        self._words[self._count_word] = self._count

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


class MarkFile:
    """The supervisor's own file: makes it, holds its lock, hands out rings.

    It has room for every worker that may live and as many whose last outcomes are still on their way to disk.
    """

    def __init__(self, path: Path, rings: int, *, token: str) -> None:
        """`token` is what the marks of this supervisor's workers begin with (see kill.WORKER_VARIABLE).

        Raises OSError: no room on the disk, no descriptor left; then there is no file either.
        """
        self.path = path
        self._descriptor = open_private(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        size = _PAGE + rings * _RING
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, size)
            if hasattr(os, "posix_fallocate"):
                # Without its blocks, a mark written on a full disk would be a SIGBUS, here as in the workers.
                os.posix_fallocate(self._descriptor, 0, size)
            self._map = mmap.mmap(self._descriptor, size)
            self._words: Words = memoryview(self._map).cast("Q")
        except OSError:
            os.close(self._descriptor)
            path.unlink()
            raise
        _HEADER.pack_into(self._map, 0, _MAGIC, boot_id().encode()[:36], token.encode()[:32])
        self._free = list(range(rings - 1, -1, -1))

    def take_ring(self) -> Ring | None:
        """A clean ring for a new worker, or None: every ring still guards something unsettled."""
        if not self._free:
            return None
        ring = Ring(self._map, self._words, self._free.pop())
        ring.clear()
        return ring

    def give_back(self, ring: Ring) -> None:
        """Every job that was ever sent to this ring's worker is settled on disk."""
        self._free.append(ring.index)

    def close(self, *, remove: bool) -> None:
        if remove:
            self.path.unlink(missing_ok=True)
        self._words.release()
        self._map.close()
        os.close(self._descriptor)


class MarkReader:
    """A rescuer's view of a dead (or stopped) supervisor's file."""

    def __init__(self, path: Path) -> None:
        """Raises FileNotFoundError: there is no evidence at all; NotPrivateError: others may have written it."""
        self._descriptor = open_private(path, os.O_RDWR)
        size = os.fstat(self._descriptor).st_size
        self._data = os.pread(self._descriptor, size, 0)

    def close(self) -> None:
        os.close(self._descriptor)

    @property
    def is_evidence(self) -> bool:
        """Whether it was written in this boot and is whole; otherwise every job counts as started."""
        if len(self._data) < _PAGE:
            return False
        magic, boot, _ = _HEADER.unpack_from(self._data)
        return bool(magic == _MAGIC and boot.rstrip(b"\0") == boot_id().encode()[:36])

    @property
    def token(self) -> str:
        """What the environment marks of its workers begin with; `""` if unknown."""
        if len(self._data) < _PAGE:
            return ""
        return bytes(_HEADER.unpack_from(self._data)[2]).rstrip(b"\0").decode("ascii", "replace")

    def owner_is_gone(self) -> bool:
        """Whether nobody holds the file's lock any more. The kernel drops it with the last process that had it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return True

    def marks(self) -> dict[tuple[int, int], int]:
        """Every start it proves: (job id, starts) → boottime µs."""
        view = memoryview(self._data)
        return {
            mark[:2]: mark.started_boot_us
            for base in range(_PAGE, len(view) - _RING + 1, _RING)
            for slot in range(_MARKS)
            if (mark := _unpack(view, base + _MARKS_AT + slot * _MARK_BYTES)) is not None
        }

    def said(self) -> Iterator[tuple[Control, list[bytes]]]:
        """Of each ring: the last it was asked, and what is surely whole of what its worker said, oldest first."""
        for base in range(_PAGE, len(self._data) - _RING + 1, _RING):
            if lines := last_lines(self._data[base + _BOX_AT : base + _RING]):
                yield Control(*_CONTROL.unpack_from(self._data, base + _CONTROL_AT)), lines

    def latest(self) -> dict[ProcessId, Mark | None]:
        """The last start of each worker that signed a ring here; None: it has not begun any job."""
        found: dict[ProcessId, Mark | None] = {}
        for base in range(_PAGE, len(self._data) - _RING + 1, _RING):
            pid, start, count = _HEAD.unpack_from(self._data, base)
            if pid:
                slot = base + _MARKS_AT + ((count - 1) % _MARKS) * _MARK_BYTES
                found[ProcessId(pid, start)] = _unpack(memoryview(self._data), slot) if count else None
        return found

    def workers(self) -> list[ProcessId]:
        """The worker processes that ever signed a ring here, newest of each ring."""
        found = []
        for base in range(_PAGE, len(self._data) - _RING + 1, _RING):
            pid, start, _ = _HEAD.unpack_from(self._data, base)
            if pid:
                found.append(ProcessId(pid, start))
        return found

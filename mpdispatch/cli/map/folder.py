"""The folder of a map, in the runtime folder of its store: its lock, the spool of its jobs, what is printed. Effects.

One folder belongs to one command with its inputs, and one process at a time works on it. It stays behind a process that
was killed, and is removed once all is printed.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import shutil
import stat
from pathlib import Path

from mpdispatch.errors import UsageError
from mpdispatch.private import open_folder, open_in

_WORDS = 5
_CURRENT, _DONE, _LENGTH, _DEVICE, _INODE = range(_WORDS)
_FLAGS_AT = 8 * _WORDS
_NEXT = "next"


class MapFolder:
    """A map's folder, which only this process uses while it is open."""

    def __init__(self, path: Path) -> None:
        """Make it if it is missing, and lock it.

        Raises UsageError: another process works on this map. OSError.
        """
        self.path = path
        self.spool = path / "spool"
        while True:
            with contextlib.suppress(FileExistsError):
                path.parent.mkdir(mode=0o700, parents=True)
            folder = open_folder(path, create=True)
            try:
                self._lock = open_in(folder, path / "lock", os.O_RDWR | os.O_CREAT)
            except FileNotFoundError:
                continue  # who had it has just removed the folder
            finally:
                os.close(folder)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._lock)
                text = "another process is at work on this very command with these inputs, in this folder"
                raise UsageError(f"map: {text}; wait for it, or end it") from None
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(self._lock), os.stat(path / "lock")):
                    return
            os.close(self._lock)

    def announce(self, last: int, total: int) -> None:
        """A map of so many jobs comes next. `last`: the number of the last one, which stays as it is; 0: there is none.

        The mark that this leaves becomes the new map's record in `take_over`. Until then it tells, whatever is killed in
        between, that a map with another number than `last` has printed nothing.
        """
        for mark in self._marks():
            mark.unlink()
        _make_record(self.path / f"{_NEXT}.{last}", total, is_all=False)

    def given_up(self, run: int) -> int | None:
        """The number of the map (0: of none) whose place that of this number has yet to take over; None: it has."""
        numbers = (int(mark.suffix[1:]) for mark in self._marks())
        return next((number for number in numbers if number != run), None)

    def take_over(self, run: int) -> None:
        """The map of this number is stored: remove what an earlier one has left, and make its record of the mark."""
        shutil.rmtree(self.spool, ignore_errors=True)
        for left in self._records():
            left.unlink()
        for mark in self._marks():
            mark.rename(self._record(run))

    def _marks(self) -> list[Path]:
        return [path for path in self.path.glob(f"{_NEXT}.*") if path.suffix[1:].isdecimal()]

    @property
    def has_record(self) -> bool:
        """Whether a map has begun here, and has not printed all."""
        return bool(self._records())

    def _records(self) -> list[Path]:
        return list(self.path.glob("printed.*"))

    def make_spool(self) -> None:
        with contextlib.suppress(FileExistsError):
            self.spool.mkdir(mode=0o700)

    def printed(self, run: int, total: int, stdout: int) -> Printed:
        """The record of what the map of this number has printed. `stdout`: the descriptor that it prints to.

        The record is removed when all is printed: a map that has taken over and has none has printed all.
        """
        path = self._record(run)
        if not path.exists():
            _make_record(path, total, is_all=True)
        return Printed(path, stdout)

    def _record(self, run: int) -> Path:
        return self.path / f"printed.{run}"

    def remove(self) -> None:
        """All is printed: remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)

    def close(self) -> None:
        os.close(self._lock)


def _make_record(path: Path, total: int, *, is_all: bool) -> None:
    """Make the record of a map that has printed all, or nothing."""
    new = path.with_name("new")
    size = -(-(_FLAGS_AT + total) // 8) * 8
    new.write_bytes(bytes(_FLAGS_AT) + bytes([is_all]) * (size - _FLAGS_AT))
    new.rename(path)


class Printed:
    """Which outputs are printed, in a file that survives this process, whatever kills it.

    A byte per job, after five numbers: the job whose output is being printed (from 1; 0: none), how many bytes of its
    stdout are printed, and if stdout is a file: its length before that output (plus 1), its device and its inode. A file
    shows after a crash how much of the output it got; of a pipe, only what was counted is known.
    """

    def __init__(self, path: Path, stdout: int) -> None:
        self._stdout = stdout
        found = os.fstat(stdout)
        self._is_file = stat.S_ISREG(found.st_mode)
        self._device, self._inode = found.st_dev, found.st_ino
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        # As words, each written in one access: a kill leaves the old or the new number.
        self._words = memoryview(self._map).cast("Q")

    def __contains__(self, position: int) -> bool:
        return self._map[_FLAGS_AT + position] != 0

    def begin(self, position: int) -> int:
        """The output of this job comes next. Gives how many bytes of its stdout are printed already."""
        words = self._words
        if words[_CURRENT] == position + 1:
            return self._found()
        words[_CURRENT] = words[_DONE] = 0
        words[_LENGTH] = self._length() + 1 if self._is_file else 0
        words[_DEVICE], words[_INODE] = self._device, self._inode
        words[_CURRENT] = position + 1
        return 0

    def _found(self) -> int:
        """How much of the current output is printed: counted, or in the file that it was written to."""
        words = self._words
        is_same = (words[_DEVICE], words[_INODE]) == (self._device, self._inode)
        if not self._is_file or not is_same or not words[_LENGTH]:
            return words[_DONE]
        return max(words[_DONE], self._length() - (words[_LENGTH] - 1))

    def _length(self) -> int:
        """Where the next byte is written to in the file."""
        if fcntl.fcntl(self._stdout, fcntl.F_GETFL) & os.O_APPEND:
            return os.fstat(self._stdout).st_size
        return os.lseek(self._stdout, 0, os.SEEK_CUR)

    def wrote(self, done: int) -> None:
        """So many bytes of the stdout of this job are printed."""
        self._words[_DONE] = done

    def end(self, position: int) -> None:
        """All of this job is printed."""
        self._map[_FLAGS_AT + position] = 1

    def again(self, position: int) -> None:
        """This job runs again, and is printed again."""
        self._map[_FLAGS_AT + position] = 0

    def close(self) -> None:
        self._words.release()
        self._map.close()

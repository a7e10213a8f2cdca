"""Remembers the files of the standard descriptors 0, 1 and 2, and opens them again after a job has changed them.

Runs in the worker's main thread. A look costs 2 µs.
"""

from __future__ import annotations

from os import close, dup, dup2, fstat
from typing import TypeAlias

_NUMBERS = (0, 1, 2)
_File: TypeAlias = tuple[int, int] | None
"""Device and inode of a descriptor; None: it is closed."""


class StandardDescriptors:
    """The files that they were open on when this was made. Keeps a duplicate of each, which no program inherits."""

    __slots__ = ("_copies", "_flat", "_then")

    def __init__(self) -> None:
        self._then = _files()
        self._flat = tuple(file and file[part] for part in (1, 0) for file in self._then)
        self._copies = [
            None if then is None else dup(number) for number, then in zip(_NUMBERS, self._then, strict=True)
        ]

    def __del__(self) -> None:
        for copy, then in zip(self._copies, self._then, strict=True):
            # A job may have closed the duplicate, and its number may be another file's by now.
            if copy is not None and _file(copy) == then:
                close(copy)

    def is_changed(self) -> bool:
        try:
            one, two, three = fstat(0), fstat(1), fstat(2)
        except OSError:
            return _files() != self._then
        # One expression, because a list of pairs takes 0.6 µs longer.
        return (one.st_ino, two.st_ino, three.st_ino, one.st_dev, two.st_dev, three.st_dev) != self._flat

    def go_back(self) -> tuple[list[int], list[int]]:
        """Open them as they were; gives the numbers of those it did, and of those it could not.

        One that was closed at first and is open now is left: it is somebody's file, by chance of this number.
        """
        back, lost = [], []
        for number, now, then, copy in zip(_NUMBERS, _files(), self._then, self._copies, strict=True):
            if now == then or copy is None:
                continue
            if _file(copy) == then:
                dup2(copy, number)
                back.append(number)
            else:
                lost.append(number)
        return back, lost


def _files() -> list[_File]:
    return [_file(number) for number in _NUMBERS]


def _file(number: int) -> _File:
    try:
        found = fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino

"""The inputs of `map`: lists on the command line, lines of files and of stdin. Reads files; else pure."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from mpdispatch.errors import UsageError

_LIST, _FILES = ":::", "::::"
_LINKED = (":::+", "::::+")
_STDIN = {"-": False, "-0": True}
"""The last word of a command line without lists: lines of stdin, or what NULs end there."""


class CommandLine(NamedTuple):
    """The words after the options, sorted."""

    template: list[str]
    lists: list[tuple[str, list[str]]]
    """Of each `:::` (inputs) and `::::` (files of inputs), in their order."""
    stdin: bool | None
    """Whether `-` (False) or `-0` (True: NUL-separated) stands at the end; None: neither."""


def sorted_words(words: Sequence[str]) -> CommandLine:
    """What the words after the options are.

    >>> sorted_words(["gzip", "{}", ":::", "a", "b"])
    CommandLine(template=['gzip', '{}'], lists=[(':::', ['a', 'b'])], stdin=None)
    >>> sorted_words(["gzip {}", "-0"])
    CommandLine(template=['gzip {}'], lists=[], stdin=True)
    """
    template: list[str] = []
    lists: list[tuple[str, list[str]]] = []
    into = template
    for word in words:
        if word in _LINKED:
            raise UsageError(
                f"{word}: linked lists are unknown here; give each command one line of a file (::::)"
            )
        if word in (_LIST, _FILES):
            into = []
            lists.append((word, into))
        else:
            into.append(word)
    stdin = None
    if not lists and len(template) > 1 and template[-1] in _STDIN:
        stdin = _STDIN[template.pop()]
    return CommandLine(template, lists, stdin)


def read_lists(line: CommandLine, files: Sequence[str], *, by_nul: bool) -> list[list[str]]:
    """The lists of inputs: of files given by `-a`, of `:::` and `::::`, else of stdin.

    Raises UsageError: nothing is given and stdin is a terminal; a list cannot be read, or has an input with a NUL.
    """
    lists = [_lines_of(file, by_nul=by_nul) for file in files]
    for kind, words in line.lists:
        if kind == _LIST:
            lists.append(list(words))
        elif words:
            lists += [_lines_of(file, by_nul=by_nul) for file in words]
        else:
            raise UsageError(":::: needs a file of inputs")
    if line.stdin is not None or not lists:
        if line.stdin is None and sys.stdin is not None and sys.stdin.isatty():
            raise UsageError("no inputs: give them after :::, by -a FILE, or as lines of stdin (- at the end)")
        lists.append(_lines_of("-", by_nul=by_nul or bool(line.stdin)))
    return lists


def refuse_own_list(joblog: str, line: CommandLine, files: Sequence[str]) -> None:
    """Refuse a joblog that is a file of inputs, which it would overwrite. Raises UsageError."""
    for file in [*files, *(word for kind, words in line.lists if kind == _FILES for word in words)]:
        with contextlib.suppress(OSError):  # one of them is not there, or is stdin
            if os.path.isfile(file) and os.path.samefile(file, joblog):
                raise UsageError(f"--joblog: {joblog} is a file of inputs, too; name another one")


def combined(lists: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Every combination of one input per list; the last list changes fastest.

    >>> combined([["a", "b"], ["1", "2"]])
    [('a', '1'), ('a', '2'), ('b', '1'), ('b', '2')]
    """
    return list(itertools.product(*lists))


def _lines_of(file: str, *, by_nul: bool) -> list[str]:
    try:
        if file == "-":
            data = b"" if sys.stdin is None else sys.stdin.buffer.read()
        else:
            with open(file, "rb") as stream:
                data = stream.read()
    except OSError as error:
        raise UsageError(f"inputs: {file} cannot be read: {error.strerror}") from error
    return split_lines(data, by_nul=by_nul, source="stdin" if file == "-" else file)


def split_lines(data: bytes, *, by_nul: bool, source: str = "stdin") -> list[str]:
    r"""The inputs in a text, each ended by a newline, or by a NUL; bytes that are no UTF-8 as the file system has them.

    >>> split_lines(b"a b\n\nc", by_nul=False), split_lines(b"a\nb\0c\0", by_nul=True)
    (['a b', '', 'c'], ['a\nb', 'c'])
    """
    end = b"\0" if by_nul else b"\n"
    if not by_nul and b"\0" in data:
        number = data[: data.index(b"\0")].count(b"\n") + 1
        raise UsageError(
            f"inputs: line {number} of {source} has a NUL, which no argument can have; -0 splits at NULs"
        )
    pieces = data.split(end)
    if not pieces[-1]:
        pieces.pop()
    return list(map(os.fsdecode, pieces))

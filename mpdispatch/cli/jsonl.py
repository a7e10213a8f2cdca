"""`enqueue --args -`: one job for each line of stdin. All faults of all lines are found before a job is enqueued."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from mpdispatch.cli.values import arguments_of_pairs
from mpdispatch.errors import Fault, PayloadError, UsageError
from mpdispatch.model.json import json_from_text

R = TypeVar("R")

_LINES_SHOWN = 20


class Lines:
    """The arguments of one job from each line, which is a JSON object. Pairs override all lines. Blank lines are skipped.

    Lines are numbered from 1 and blank lines count, as in an editor.

    >>> Lines([b'{"path": "a.pdf"}', b"", b'{"path": "b.pdf"}'], ["dpi:=300"]).items
    {1: {'path': 'a.pdf', 'dpi': 300}, 3: {'path': 'b.pdf', 'dpi': 300}}
    """

    def __init__(self, lines: Iterable[bytes], pairs: Sequence[str]) -> None:
        common = arguments_of_pairs(pairs)
        self.items: dict[int, dict[str, Any]] = {}
        self._faults: dict[int, list[str]] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                self.items[number] = _object(line) | common
            except UsageError as error:
                self._faults[number] = [str(error)]

    def read(self, job_name: str, reader: Callable[[Mapping[str, Any]], R]) -> list[R]:
        """The values that `reader` makes of the arguments of each line. `reader` may raise PayloadError.

        Raises PayloadError: names every line that is no JSON object or that `reader` refuses, up to 20 of them.
        """
        found, faults = [], dict(self._faults)
        for number, arguments in self.items.items():
            try:
                found.append(reader(arguments))
            except PayloadError as error:
                faults[number] = [str(fault) for fault in error.faults]
        if faults:
            raise PayloadError(job_name, _faults_by_line(faults))
        return found


def _object(line: bytes) -> dict[str, Any]:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"no UTF-8: {error}") from error
    arguments = json_from_text(text)
    if not isinstance(arguments, dict):
        raise UsageError("must be a JSON object, such as '{\"dpi\": 300}'")
    return arguments


def _faults_by_line(faults: Mapping[int, Sequence[str]]) -> Iterator[Fault]:
    for number in sorted(faults)[:_LINES_SHOWN]:
        yield Fault(f"line {number}", "; ".join(faults[number]))
    if (more := len(faults) - _LINES_SHOWN) > 0:
        yield Fault("", f"and {more:,} more lines" if more > 1 else "and 1 more line")
    yield Fault("", "no job is enqueued")

"""The output of running jobs on its way to the store. Pure but for its state: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mpdispatch.clock import SECOND_US
from mpdispatch.model import Output, Stream, tail

_EVERY_US = SECOND_US
"""How often the output of a running job is stored."""

_Start = tuple[int, int]


@dataclass(slots=True)
class _Held:
    text: str = ""
    written: int = 0
    is_new: bool = False


@dataclass(slots=True)
class _OfStart:
    due_us: int
    """Boottime from which new output is to be stored."""
    streams: dict[Stream, _Held] = field(default_factory=dict)


class Outputs:
    """The tail of every stream of every running start. Not thread-safe: the loop's thread only."""

    def __init__(self) -> None:
        self._starts: dict[_Start, _OfStart] = {}

    def __bool__(self) -> bool:
        return bool(self._starts)

    def add(self, job_id: int, starts: int, stream: Stream, text: str, written: int, *, now_us: int) -> None:
        """Append a piece. The first output of a start is due at once."""
        of_start = self._starts.setdefault((job_id, starts), _OfStart(now_us))
        held = of_start.streams.setdefault(stream, _Held())
        held.text, held.written, held.is_new = tail(held.text + text), written, True

    def due(self, now_us: int, ended: Iterable[_Start]) -> list[Output]:
        """The output to store now: of ended starts, all; of the others, once a second."""
        if not self._starts:
            return []
        ending = set(ended)
        return [
            Output(job_id=start[0], starts=start[1], stream=stream, text=held.text, written=held.written)
            for start, of_start in self._starts.items()
            if start in ending or of_start.due_us <= now_us
            for stream, held in of_start.streams.items()
            if held.is_new
        ]

    def written(self, outputs: Iterable[Output], ended: Iterable[_Start], now_us: int) -> None:
        """These outputs are on disk; the ended starts write no more."""
        for output in outputs:
            of_start = self._starts[output.job_id, output.starts]
            of_start.due_us = now_us + _EVERY_US
            held = of_start.streams[output.stream]
            held.is_new = held.written != output.written  # more may have come meanwhile
        if self._starts:
            for start in ended:
                self._starts.pop(start, None)

    @property
    def next_us(self) -> int | None:
        """When something is due (boottime µs), or None."""
        if not self._starts:
            return None  # nearly always
        return min(
            (
                of_start.due_us
                for of_start in self._starts.values()
                if any(held.is_new for held in of_start.streams.values())
            ),
            default=None,
        )

    def clear(self) -> None:
        self._starts.clear()

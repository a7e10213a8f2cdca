"""What a mark file proves about its supervisor's jobs: which were started, which were answered. Effects: reads the file.

A supervisor that was killed had heard answers it had not written yet, and its workers had given some it had not heard.
They are in its file still, as far back as an outbox reaches, but for long ones: those went through the channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec

from mpdispatch.model import Answer, Completed, Raised
from mpdispatch.policy.decide import LATEST_US
from mpdispatch.pool.frames import Done, Ended, FrameError, decode_from_worker
from mpdispatch.pool.marks import Control, MarkReader
from mpdispatch.pool.process import CONTROL_CANCEL, CONTROL_TIMEOUT, Doom

__all__ = ["Answered", "Evidence", "Start", "read_evidence"]

Start: TypeAlias = tuple[int, int]
"""(job id, starts): one start of one job."""


class Answered(NamedTuple):
    """What a worker said of a start, and what its supervisor had asked of that (a kind of Control; 0: nothing)."""

    answer: Answer
    asked: int

    def doom(self, *, cancel_requested: bool) -> Doom | None:
        """Why its supervisor was ending it. For a shutdown it asks as for a cancel, which somebody must have wanted."""
        if self.asked == CONTROL_TIMEOUT:
            return Doom.TIMEOUT
        if self.asked == CONTROL_CANCEL:
            return Doom.CANCEL if cancel_requested else Doom.ABORT
        return None


@dataclass(frozen=True, slots=True)
class Evidence:
    started: Mapping[Start, int]
    """Boottime (µs) of every start that is marked."""
    answered: Mapping[Start, Answered]
    junk: int
    """Lines that say nothing."""


def read_evidence(path: Path) -> Evidence:
    """What is in it now. Raises FileNotFoundError."""
    reader = MarkReader(path)
    try:
        answered: dict[Start, Answered] = {}
        junk = sum(_gather(lines, asked, answered) for asked, lines in reader.said())
        return Evidence(started=reader.marks(), answered=answered, junk=junk)
    finally:
        reader.close()


def _gather(lines: Iterable[bytes], asked: Control, answered: dict[Start, Answered]) -> int:
    """Add the answers among these; gives how many lines say nothing."""
    junk = 0
    for line in lines:
        try:
            message = decode_from_worker(line)
        except FrameError:
            junk += 1
            continue
        answer: Answer
        match message:
            case Done():
                answer = Completed(run=message.run, result=bytes(message.result))
            case Ended():
                answer = message.outcome
            case _:
                continue
        if not _is_storable(answer):
            junk += 1
            continue
        start = message.id, message.starts
        # The first, as its supervisor would have it.
        answered.setdefault(start, Answered(answer, asked.kind if asked[:2] == start else 0))
    return junk


def _is_storable(answer: Answer) -> bool:
    """Whether its numbers fit. No honest worker's do not; but such an answer would stop one rescuer after the other."""
    numbers = () if answer.run is None else msgspec.structs.astuple(answer.run)
    status = answer.exit_status if isinstance(answer, Raised) else None
    return all(each is None or abs(each) <= LATEST_US for each in (*numbers, status))

"""What a start journal proves about its supervisor's jobs: which began, which were answered. Effects: reads the file.

A supervisor that was killed had heard answers it had not written yet, and its workers had given some it had not heard.
They are in its file still, as far back as an reply_ring reaches, but for long ones: those went through the channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec

from mpdispatch.host.journal_reader import JournalReader
from mpdispatch.host.start_journal import Control
from mpdispatch.model import Answer, Completed, Raised
from mpdispatch.policy.decide import LATEST_US
from mpdispatch.pool.frames import Done, Ended, FrameError, decode_from_worker
from mpdispatch.pool.process import CONTROL_CANCEL, CONTROL_TIMEOUT, StopReason

__all__ = ["Answered", "Recovered", "Start", "recover"]

Start: TypeAlias = tuple[int, int]
"""(job id, starts): one start of one job."""


class Answered(NamedTuple):
    """What a worker said of a start, and what its supervisor had asked of that (a kind of Control; 0: nothing)."""

    answer: Answer
    asked: int

    def stop_reason(self, *, cancel_requested: bool) -> StopReason | None:
        """Why its supervisor was ending it. For a shutdown it asks as for a cancel, which somebody must have wanted."""
        if self.asked == CONTROL_TIMEOUT:
            return StopReason.TIMEOUT
        if self.asked == CONTROL_CANCEL:
            return StopReason.CANCEL if cancel_requested else StopReason.ABORT
        return None


@dataclass(frozen=True, slots=True)
class Recovered:
    started: Mapping[Start, int]
    """Boottime (µs) of every start that is marked."""
    answered: Mapping[Start, Answered]
    junk: int
    """Lines that say nothing."""


def recover(path: Path, wanted: Set[Start] | None = None) -> Recovered | None:
    """What is in it now of the starts that matter (`wanted`; None: of all); None: it proves nothing.

    Raises FileNotFoundError.
    """
    reader = JournalReader(path)
    try:
        if not reader.is_evidence:
            return None
        started, answered, junk = dict[Start, int](), dict[Start, Answered](), 0
        for marks, asked, lines in reader.look(wanted):
            started |= marks
            if wanted is not None and marks:
                lines = _about(lines, marks)
            junk += _gather(lines, asked, answered, wanted)
        return Recovered(started=started, answered=answered, junk=junk)
    finally:
        reader.close()


def _about(lines: Iterable[bytes], starts: Iterable[Start]) -> list[bytes]:
    """Those that may say something of these jobs: what a record's worker began is marked there as long as it matters.

    Not to decode the others saves three quarters of the time a take-over of a thousand workers takes.
    """
    needles = [b",%d,%d," % start for start in starts]
    if len(needles) == 1:  # what it ran last; the others are on disk
        (needle,) = needles
        return [line for line in lines if needle in line]
    return [line for line in lines if any(needle in line for needle in needles)]


def _gather(
    lines: Iterable[bytes], asked: Control, answered: dict[Start, Answered], wanted: Set[Start] | None
) -> int:
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
        start = message.id, message.starts
        if wanted is not None and start not in wanted:
            continue
        if not _is_storable(answer):
            junk += 1
            continue
        # The first, as its supervisor would have it.
        answered.setdefault(start, Answered(answer, asked.kind if asked[:2] == start else 0))
    return junk


def _is_storable(answer: Answer) -> bool:
    """Whether its numbers fit. No honest worker's do not; but such an answer would stop one rescuer after the other."""
    numbers = () if answer.run is None else msgspec.structs.astuple(answer.run)
    status = answer.exit_status if isinstance(answer, Raised) else None
    return all(each is None or abs(each) <= LATEST_US for each in (*numbers, status))

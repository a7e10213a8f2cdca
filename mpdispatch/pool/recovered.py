"""What a start journal proves about its supervisor's jobs: which began, and which were answered. Decodes replies.

A killed supervisor may have read answers that it had not committed, and left others unread. The file still has them, as
far back as a reply ring reaches, except for long answers, which went through the channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import NamedTuple, TypeAlias

import msgspec

from mpdispatch.clock import LATEST_US
from mpdispatch.host.journal_layout import Control
from mpdispatch.host.journal_reader import JournalReader
from mpdispatch.model import Answer, Completed, Raised
from mpdispatch.pool.assigned import StopReason
from mpdispatch.pool.frames import Done, Ended, FrameError, decode_from_worker
from mpdispatch.pool.process import CONTROL_CANCEL, CONTROL_TIMEOUT

Start: TypeAlias = tuple[int, int]
"""(job id, starts): one start of one job."""


class Answered(NamedTuple):
    """A worker's answer for a start, and the request its supervisor had made (a kind of Control; 0: none)."""

    answer: Answer
    asked: int

    def stop_reason(self, *, cancel_requested: bool) -> StopReason | None:
        """Why its supervisor was ending the job. A shutdown sends the same request as a cancel."""
        if self.asked == CONTROL_TIMEOUT:
            return StopReason.TIMEOUT
        if self.asked == CONTROL_CANCEL:
            return StopReason.CANCEL if cancel_requested else StopReason.ABORT
        return None


class Recovered(msgspec.Struct, frozen=True):
    started: Mapping[Start, int]
    """Boottime (µs) of every recorded start."""
    answered: Mapping[Start, Answered]
    junk: int
    """The number of unreadable lines."""


def recover(journal: JournalReader, wanted: Set[Start] | None = None) -> Recovered | None:
    """The content of the journal about the starts in `wanted` (None: about all). None: it proves nothing."""
    if not journal.is_evidence:
        return None
    started, answered, junk = dict[Start, int](), dict[Start, Answered](), 0
    for marks, asked, lines in journal.look(wanted):
        started |= marks
        if wanted is not None and marks:
            lines = _about(lines, marks)
        junk += _gather(lines, asked, answered, wanted)
    return Recovered(started=started, answered=answered, junk=junk)


def _about(lines: Iterable[bytes], starts: Iterable[Start]) -> list[bytes]:
    """The lines that may be about these starts. A record keeps the starts of its worker for as long as they matter.

    Skipping the others saves three quarters of the time for taking over a thousand workers.
    """
    needles = [b",%d,%d," % start for start in starts]
    if len(needles) == 1:  # the last start; outcomes of the others are on disk
        (needle,) = needles
        return [line for line in lines if needle in line]
    return [line for line in lines if any(needle in line for needle in needles)]


def _gather(
    lines: Iterable[bytes], asked: Control, answered: dict[Start, Answered], wanted: Set[Start] | None
) -> int:
    """Add the answers among these lines; gives the number of unreadable lines."""
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
        # The first answer counts, as it does for a supervisor.
        answered.setdefault(start, Answered(answer, asked.kind if asked[:2] == start else 0))
    return junk


def _is_storable(answer: Answer) -> bool:
    """Whether its numbers are in range. A forged answer with others would stop every rescuer."""
    numbers = () if answer.run is None else msgspec.structs.astuple(answer.run)
    status = answer.exit_status if isinstance(answer, Raised) else None
    return all(each is None or abs(each) <= LATEST_US for each in (*numbers, status))

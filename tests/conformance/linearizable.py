"""Whether what claimers saw at the same time could have been seen one after the other: a check of histories.

A history is a list of operations with the moments when each began and ended. It is linearizable if every operation can
be given one moment between these two, such that all of them in the order of these moments give the answers that were
given. The search is that of Wing and Gong, with Lowe's memory of what was tried: an operation may come next if none of
those left had ended before it began.

What the operations mean without any concurrency is said by `after`: a queue of jobs, by priority and then by id, of
which a turn ends those it holds and takes the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Cancelled", "Enqueued", "Operation", "Outcome", "Queue", "Turn", "after", "order_of"]


class Enqueued(NamedTuple):
    """A client enqueued a job, and was told its id."""

    job_id: int
    priority: int


class Cancelled(NamedTuple):
    """A client cancelled a job, and was told what it became."""

    job_id: int
    answer: str
    """`cancelled`; `running`, whose owner is asked to end it; or `refused`, because it has ended."""


class Outcome(NamedTuple):
    """What a claimer says of a job it holds."""

    job_id: int
    starts: int
    is_released: bool
    """It is to run again at once; else it has completed."""


class Turn(NamedTuple):
    """One commit of a claimer: outcomes, and a claim, in one transaction."""

    owner: int
    outcomes: tuple[Outcome, ...]
    slots: int
    claimed: tuple[tuple[int, int], ...]
    """(job id, starts), in the order they were given."""


class Operation(NamedTuple):
    began: int
    ended: int
    call: Enqueued | Cancelled | Turn


class Held(NamedTuple):
    priority: int
    owner: int
    is_cancelled: bool


@dataclass(frozen=True)
class Queue:
    """All jobs at one moment."""

    waiting: frozenset[tuple[int, int, int]] = frozenset()
    """(-priority, job id, starts so far)"""
    running: frozenset[tuple[int, int, Held]] = frozenset()
    """(job id, starts, by whom)"""


def after(queue: Queue, call: Enqueued | Cancelled | Turn) -> Queue | None:
    """The queue once this has happened; None: it cannot have given this answer."""
    match call:
        case Enqueued(job_id, priority):
            return Queue(queue.waiting | {(-priority, job_id, 0)}, queue.running)
        case Cancelled():
            return _cancelled(queue, call)
        case Turn():
            return _turned(queue, call)


def _cancelled(queue: Queue, call: Cancelled) -> Queue | None:
    for job in queue.waiting:
        if job[1] == call.job_id:
            return Queue(queue.waiting - {job}, queue.running) if call.answer == "cancelled" else None
    for job_id, starts, held in queue.running:
        if job_id == call.job_id:
            asked = (job_id, starts, held._replace(is_cancelled=True))
            running = queue.running - {(job_id, starts, held)} | {asked}
            return Queue(queue.waiting, running) if call.answer == "running" else None
    return queue if call.answer == "refused" else None


def _turned(queue: Queue, turn: Turn) -> Queue | None:
    waiting, running = set(queue.waiting), set(queue.running)
    held = {(job_id, starts): by for job_id, starts, by in running}
    for outcome in turn.outcomes:
        by = held.get((outcome.job_id, outcome.starts))
        if by is None or by.owner != turn.owner:
            return None
        running.remove((outcome.job_id, outcome.starts, by))
        if outcome.is_released and not by.is_cancelled:
            waiting.add((-by.priority, outcome.job_id, outcome.starts))
    first = sorted(waiting)[: turn.slots]
    if tuple((job_id, starts + 1) for _, job_id, starts in first) != turn.claimed:
        return None
    waiting.difference_update(first)
    running.update((job_id, starts + 1, Held(-less, turn.owner, False)) for less, job_id, starts in first)
    return Queue(frozenset(waiting), frozenset(running))


def order_of(history: Sequence[Operation], queue: Queue | None = None) -> list[int] | None:
    """An order of the operations, by their places, that explains all answers; None: there is none."""
    order = list[int]()
    tried = set[tuple[int, Queue]]()
    everything = (1 << len(history)) - 1
    # What is left to try after each prefix of the order, with what was done and the queue before it.
    branches = [(_next(history, 0), 0, queue or Queue())]
    while branches:
        choices, done, now = branches[-1]
        if done == everything:
            return order
        place = next(choices, None)
        if place is None:
            branches.pop()
            if order:
                order.pop()
            continue
        then = after(now, history[place].call)
        state = (done | 1 << place, then)
        if then is None or state in tried:
            continue
        tried.add((state[0], then))
        order.append(place)
        branches.append((_next(history, state[0]), state[0], then))
    return None


def _next(history: Sequence[Operation], done: int) -> Iterator[int]:
    """The operations that may come next: no other that is left had ended before they began. The first to end, first."""
    left = [place for place in range(len(history)) if not done >> place & 1]
    if not left:
        return iter(())
    ends = min(history[place].ended for place in left)
    free = [place for place in left if history[place].began <= ends]
    return iter(sorted(free, key=lambda place: history[place].ended))

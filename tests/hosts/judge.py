"""What the notes of handlers on several hosts prove. Pure.

A run lasts from its first note to its last one: a killed worker has noted every few ms that it was there. So two runs
that are found to overlap certainly did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple


class Note(NamedTuple):
    """One line of the records."""

    what: str
    """`start`, `on` or `end`."""
    job: int
    token: int
    queue: str
    host: str
    pid: int
    """As the host counts."""
    at_ns: int
    """By a clock that all hosts share."""


class Run(NamedTuple):
    """One execution of a job."""

    job: int
    token: int
    queue: str
    host: str
    pid: int
    first_ns: int
    last_ns: int
    has_ended: bool


def notes_in(text: str, ahead_ns: Callable[[str], int]) -> list[Note]:
    """The notes, oldest first. `ahead_ns`: how much a host's clock is ahead of the shared one."""
    found = []
    for line in text.splitlines():
        what, job, token, queue, host, pid, at = line.split()
        found.append(Note(what, int(job), int(token), queue, host, int(pid), int(at) - ahead_ns(host)))
    return sorted(found, key=lambda each: each.at_ns)


def runs_of(notes: Iterable[Note]) -> list[Run]:
    """The runs, in the order of their starts."""
    found: dict[tuple[int, int, str, int], list[Note]] = {}
    for each in notes:
        found.setdefault((each.job, each.token, each.host, each.pid), []).append(each)
    runs = []
    for noted in found.values():
        first, last = noted[0], noted[-1]
        assert first.what == "start", first
        runs.append(Run(*first[1:6], first.at_ns, last.at_ns, last.what == "end"))
    return sorted(runs, key=lambda each: each.first_ns)


def overlaps(runs: Iterable[Run]) -> list[tuple[Run, Run]]:
    """Runs of one job at the same time, the earlier one first."""
    jobs: dict[int, list[Run]] = {}
    for each in runs:
        jobs.setdefault(each.job, []).append(each)
    return [pair for found in jobs.values() for pair in _at_once(found)]


def crowds(runs: Iterable[Run], queue: str) -> list[tuple[Run, Run]]:
    """Runs of a queue at the same time, the earlier one first."""
    return _at_once([each for each in runs if each.queue == queue])


def _at_once(runs: list[Run]) -> list[tuple[Run, Run]]:
    found = []
    longest: Run | None = None
    for earlier, later in pairwise(sorted(runs, key=lambda each: each.first_ns)):
        if longest is None or earlier.last_ns > longest.last_ns:
            longest = earlier
        if longest.last_ns > later.first_ns:
            found.append((longest, later))
    return found

"""What the jobs of the benchmarks do, known to references and handlers alike. Imports nothing of mpdispatch."""

from __future__ import annotations

import time


def noop() -> None:
    """Nothing."""


def same(value: int) -> int:
    """What it was given."""
    return value


def stamp() -> int:
    """When its first line ran: `time.monotonic_ns()`, which all processes of a host share."""
    return time.monotonic_ns()


def nap(seconds: float) -> int:
    """Sleep, then say when that was over (monotonic ns)."""
    time.sleep(seconds)
    return time.monotonic_ns()


def burn(rounds: int) -> int:
    """A fixed amount of work, not of time: how long it takes is what is measured."""
    value = 1
    for _ in range(rounds):
        value = (value * 1103515245 + 12345) & 0x7FFFFFFF
    return value


def burn_all(rounds: int, jobs: int) -> None:
    """The plain loop that a queue's overhead is measured against."""
    for _ in range(jobs):
        burn(rounds)


def rounds_per_ms() -> int:
    """How many rounds of `burn` take 1 ms here: by the fastest of 20 tries, so neighbours matter little."""
    rounds = 20_000
    best_s = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        burn(rounds)
        best_s = min(best_s, time.perf_counter() - began)
    return max(1, round(rounds / (best_s * 1000)))

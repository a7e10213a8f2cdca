"""How long a job that was put off still waits, if the wall clock was set back meanwhile. Pure: no I/O, no clock."""

from __future__ import annotations

from mpdispatch.clock import SECOND_US, Instant

__all__ = ["STEP_US", "rebased_us", "was_set_back"]

STEP_US = SECOND_US
"""A clock that falls behind by less was slewed, or read at two moments."""


def was_set_back(before: Instant, now: Instant) -> bool:
    """Whether the wall clock was set back between these two readings, by more than STEP_US.

    >>> was_set_back(Instant(10_000_000, 0), Instant(11_000_000, 5_000_000))
    True
    >>> was_set_back(Instant(10_000_000, 0), Instant(90_000_000, 5_000_000))
    False
    """
    return now.wall_us - now.boot_us < before.wall_us - before.boot_us - STEP_US


def rebased_us(run_at_us: int, put_off_us: int, *, now_us: int) -> int:
    """When a job is due that was put off at `put_off_us` until `run_at_us`; all of it wall time.

    If that was at a moment still to come, the clock was set back since. Then the wait begins anew, unless the step was
    shorter than it: a step costs a wait at most its own length again. What begins anew is due before the moment it was
    put off at, by which it is known: to look again changes nothing, nor does another step back while it waits anew.

    >>> rebased_us(61_000_000, 60_000_000, now_us=20_000_000)
    21000000
    >>> rebased_us(21_000_000, 60_000_000, now_us=20_500_000)
    21000000
    >>> rebased_us(90_000_000, 60_000_000, now_us=50_000_000)
    90000000
    """
    wait_us = run_at_us - put_off_us
    if wait_us < 0 or put_off_us - now_us <= wait_us:
        return run_at_us
    return now_us + wait_us

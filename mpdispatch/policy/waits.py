"""How long a job that was put off still waits, if the wall clock was set back meanwhile. Pure: no I/O, no clock."""

from __future__ import annotations

from mpdispatch.clock import SECOND_US, Instant

STEP_US = SECOND_US
"""A wall clock that falls behind by less than this was only slewed, or its two readings were not simultaneous."""


def was_set_back(before: Instant, now: Instant) -> bool:
    """Whether the wall clock was set back between these two readings, by more than STEP_US.

    >>> was_set_back(Instant(10_000_000, 0), Instant(11_000_000, 5_000_000))
    True
    >>> was_set_back(Instant(10_000_000, 0), Instant(90_000_000, 5_000_000))
    False
    """
    return now.wall_us - now.boot_us < before.wall_us - before.boot_us - STEP_US


def rebased_us(run_at_us: int, put_off_us: int, *, now_us: int) -> int:
    """When a job is due that was put off, at `put_off_us`, until `run_at_us`. All three are wall times.

    A `put_off_us` that is still to come shows that the clock was set back since. If the step was longer than the wait,
    the wait begins again from now; a shorter step is left alone, as it costs the job less than its wait once more.

    A job whose wait began again is due before its `put_off_us`. That marks it: a second call changes nothing, and
    neither does another step back while it waits.

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

"""How many jobs a rate limit lets start now: a token bucket kept as one integer. Pure: no I/O, no clock.

The stored value is the *theoretical arrival time* of the generic cell rate algorithm (ITU-T I.371) in
boottime µs: the moment at which the jobs taken so far would have been due, one by one, at the rate.
The value may be ahead of the clock by what the capacity holds, and never lags behind the clock: idle time
saves up one full bucket and no more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from mpdispatch.clock import SECOND_US
from mpdispatch.errors import UsageError
from mpdispatch.policy.names import shown

MIN_RATE, MAX_RATE, MAX_BURST = 1e-6, 1e6, 1_000_000
"""Jobs per second, and jobs at once. Within these every bucket value fits a 64-bit integer."""

_SLACK_PER_S = 50
"""A full bucket holds at least the tokens of 1/50 s (20 ms). With less, a loop that wakes late could not keep the rate."""

_FOREIGN_US = 60 * SECOND_US
"""A value ahead of the clock by more than a full bucket and this comes from an earlier boot or a far slower limit."""


class RateTable(NamedTuple):
    """What decides about the bucket of a `Rate`, in whole µs, for 1, 2, 3 … jobs.

    >>> Rate(2.0, burst=2).table(2)
    RateTable(within=[520000, 20000], costs=[500000, 1000000], foreign=61020001)
    """

    within: list[int]
    """So many jobs may start while the bucket is ahead of the clock by this at most; no more jobs than are here."""
    costs: list[int]
    """By this the bucket moves on when so many start."""
    foreign: int
    """A bucket that is ahead by more counts as not used yet."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `per_s` jobs a second on average, up to `burst` of them at once.

    In any window of `w` seconds, both ends included, at most `per_s * w + capacity` jobs start, where
    `capacity = max(burst + min(0.5, per_s * 0.02), per_s * 0.02)`. The half token and the 20 ms let a loop
    that wakes late catch up: without them, waking 1 ms late each time turns 500/s into 333/s. A slow rate
    gains next to nothing by it: at one job in 10 s, two starts are at least 9.98 s apart.

    >>> rate = Rate(50)
    >>> rate.available(None, now_us=1_000_000)
    1
    >>> bucket = rate.take(None, 1, now_us=1_000_000)
    >>> rate.available(bucket, now_us=1_000_000), rate.next_due_us(bucket, now_us=1_000_000)
    (0, 1010000)

    Raises UsageError: `per_s` is outside 0.000001 … 1000000, or `burst` outside 1 … 1000000.
    """

    per_s: float
    burst: int = 1
    # Exact integers, because floats of boottime lose microseconds after some months.
    # n jobs may start while n * _job <= elapsed_us * _us + _full.
    _us: int = field(init=False, repr=False, compare=False)
    _job: int = field(init=False, repr=False, compare=False)
    _full: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.per_s, bool) or not isinstance(self.per_s, int | float):
            raise UsageError(f"per_s: must be jobs per second, not {shown(self.per_s)}")
        if not MIN_RATE <= self.per_s <= MAX_RATE:
            raise UsageError(f"per_s: must be from {MIN_RATE:f} to {MAX_RATE:.0f}, not {shown(self.per_s)}")
        if isinstance(self.burst, bool) or not isinstance(self.burst, int) or not 1 <= self.burst <= MAX_BURST:
            raise UsageError(f"burst: must be a whole number from 1 to {MAX_BURST}, not {shown(self.burst)}")
        numerator, denominator = self.per_s.as_integer_ratio()
        job = 2 * SECOND_US * denominator
        object.__setattr__(self, "_us", 2 * numerator)
        object.__setattr__(self, "_job", job)
        slack = numerator * 2 * SECOND_US // _SLACK_PER_S
        full = max(2 * self.burst * SECOND_US * denominator + min(SECOND_US * denominator, slack), slack)
        object.__setattr__(self, "_full", full)

    def available(self, bucket: int | None, *, now_us: int) -> int:
        """Jobs that may start now. `bucket` is the stored value (None: never used), `now_us` boottime."""
        return max(0, (self._elapsed(bucket, now_us) * self._us + self._full) // self._job)

    def take(self, bucket: int | None, count: int, *, now_us: int) -> int:
        """The value to store after `count` jobs were started at boottime `now_us`.

        Raises UsageError: that many may not start now.
        """
        free = self.available(bucket, now_us=now_us)
        if not 0 <= count <= free:
            raise UsageError(f"count: {free} may be taken now, not {count}")
        # Rounded up: the limit holds, and less than 1 µs is lost per call.
        return now_us - self._elapsed(bucket, now_us) - (-count * self._job // self._us)

    def next_due_us(self, bucket: int | None, *, now_us: int) -> int:
        """Boottime from which at least one job may start; `now_us` if one may now."""
        missing = self._job - self._full - self._elapsed(bucket, now_us) * self._us
        return max(now_us, now_us - (-missing // self._us))

    def table(self, most: int) -> RateTable:
        """The same rule for up to `most` jobs, as a store applies it that has no integers of any size."""
        counts = range(1, most + 1)
        within = [(self._full - count * self._job) // self._us for count in counts]
        return RateTable(
            within=[each for each in within if each >= 0],
            costs=[-(-count * self._job // self._us) for count in counts],
            foreign=_FOREIGN_US + (self._full + self._us) // self._us,
        )

    def _elapsed(self, bucket: int | None, now_us: int) -> int:
        """µs from the bucket's time to now, if that is ahead (negative), else 0: idle time saves nothing."""
        if bucket is None or bucket <= now_us:
            return 0
        ahead = bucket - now_us
        # A boottime of an earlier boot may be days ahead, and the queue would wait for it.
        return 0 if (ahead - _FOREIGN_US) * self._us > self._full + self._us else -ahead

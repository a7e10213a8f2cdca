"""Time as a value: wall, monotonic and boottime clocks read together. Ground: imports nothing of ours.

Wall time decides `run_at` and what people read. Boottime (it goes on during suspend, never jumps) decides leases,
deadlines and rate limits; it is comparable between processes of one boot. All are integer microseconds.
"""

from __future__ import annotations

import re
import time

# Import the functions now: a job may later patch these modules.
from select import select
from time import clock_gettime_ns, time_ns
from typing import NamedTuple, Protocol

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

SECOND_US = 1_000_000
EARLIEST_US, LATEST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The first and the last wall time that a datetime can show: the years 1 to 9999."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_TEXT = re.compile(rf"(?:{_PART.pattern})+")
_PLAIN = re.compile(r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+")


def sleep(seconds: float) -> None:
    """As `time.sleep`, which fails (EINVAL) under libfaketime with DONT_FAKE_MONOTONIC; people test schedules with it."""
    select((), (), (), max(0.0, seconds))


def seconds_of_text(text: str) -> float | None:
    """Seconds of a duration such as `250ms`, `30s`, `1h30m`, `1.5`; None if it is not a duration. May be infinite.

    >>> seconds_of_text("1h30m")
    5400.0
    """
    text = text.strip()
    if _PLAIN.fullmatch(text):
        return float(text)
    if not _TEXT.fullmatch(text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


class Instant(NamedTuple):
    """One reading of the clocks, in integer microseconds."""

    wall_us: int
    """Since 1970-01-01 UTC."""
    boot_us: int
    """Since the machine booted, suspend included."""


class Clock(Protocol):
    """Where the current time comes from; tests hand in a fake one."""

    def now(self) -> Instant: ...


def boot_us() -> int:
    """The boottime clock alone, for the hot path of a worker."""
    return clock_gettime_ns(_BOOTTIME) // 1000


class SystemClock:
    """The machine's own clocks."""

    __slots__ = ()

    def now(self) -> Instant:
        return Instant(time_ns() // 1000, clock_gettime_ns(_BOOTTIME) // 1000)

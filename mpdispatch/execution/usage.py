"""How much CPU and memory each job of a worker used. Runs in the worker process.

Asking the kernel costs 1 µs. For a job shorter than `BRIEF_US` the kernel is not asked, except for one in `EVERY`; its
duration counts as its CPU time.
"""

from __future__ import annotations

import resource
import sys

# Bound here, because a job may replace this function.
from time import monotonic_ns

BRIEF_US = 50
"""In so short a time a job can start no process, and hardly a thread."""
EVERY = 16

_RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024
_PAUSE_NS = 200_000
"""A pause between two jobs counts as our CPU time if it is shorter than this. In a longer one the worker waited."""


class Meter:
    """Call `read` at the end of each job."""

    __slots__ = ("_cpu_us", "_last_ns", "_max_rss_bytes", "_passed_us", "_skipped")

    def __init__(self) -> None:
        self._skipped = self._passed_us = 0
        self._last_ns = monotonic_ns()
        self._cpu_us, self._max_rss_bytes = _usage()

    def read(self, began_ns: int, ended_ns: int) -> tuple[int, int]:
        """(CPU time of the job in µs, peak memory of this process in bytes), given the job's monotonic times."""
        duration_us = (ended_ns - began_ns) // 1000
        if duration_us < BRIEF_US and self._skipped < EVERY:
            self._skipped += 1
            passed_ns = ended_ns - self._last_ns
            self._passed_us += (passed_ns if passed_ns < _PAUSE_NS else ended_ns - began_ns) // 1000
            self._last_ns = ended_ns
            return duration_us, self._max_rss_bytes
        before_us = self._cpu_us
        self._cpu_us, self._max_rss_bytes = _usage()
        used_us = max(0, self._cpu_us - before_us - self._passed_us)
        self._skipped = self._passed_us = 0
        self._last_ns = ended_ns
        return used_us, self._max_rss_bytes


def _usage() -> tuple[int, int]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return int((usage.ru_utime + usage.ru_stime) * 1e6), usage.ru_maxrss * _RSS_UNIT_BYTES

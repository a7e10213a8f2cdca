"""What `map` tells people on stderr: a bar while it runs, and a table of the failed jobs at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from mpdispatch.cli.map.ends import End
from mpdispatch.cli.output import escape
from mpdispatch.model import Cause
from mpdispatch.policy.names import cut

MOST_FAILURES = 100
"""The most failed jobs that are told one by one."""
_DRAW_EVERY_S = 0.2
_BAR_CHARS = 24


class FailedJob(NamedTuple):
    """A failed job, as a line of the table shows it."""

    position: int
    name: str
    how: str
    attempts: int
    detail: str


def how_it_ended(end: End) -> str:
    """In a few words why a job did not complete."""
    match end:
        case End(signal=str(name)):
            return name
        case End(exit_status=int(status)):
            return f"exit {status}"
        case End(cause=Cause.TIMEOUT):
            return "timeout"
        case End(cause=Cause.WORKER_DIED):
            return "worker died"
        case End(cause=Cause.CANCELLED):
            return "cancelled"
    return end.cause.value


def detail_of(end: End) -> str:
    """The last line that a failed program wrote to stderr, as far as it is known."""
    if end.error is None or (end.exit_status is None and end.signal is None):
        return ""
    how = f"was killed by {end.signal}" if end.signal is not None else f"exit status {end.exit_status}"
    return end.error.message.partition(f": {how}: ")[2]


def print_failures(failures: Sequence[FailedJob], count: int, total: int) -> None:
    """Print the table of the failed jobs, and how many there are."""
    columns = ("input", "ended", "attempts", "last line of stderr")
    rows = [
        (cut(escape(each.name), 50), each.how, str(each.attempts), cut(escape(each.detail), 80))
        for each in sorted(failures)
    ]
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(cells.rstrip(), file=sys.stderr)
    if count > len(failures):
        print(f"and {count - len(failures):,} more", file=sys.stderr)
    print(f"mpdispatch: {count:,} of {total:,} jobs failed", file=sys.stderr)


class Bar:
    """A line on stderr that is drawn again and again: share, rate and ETA. Removed before anything else is printed."""

    def __init__(self, total: int, done: int) -> None:
        self._total, self._began = total, done
        self._began_s = time.monotonic()
        self._drawn_s = 0.0
        self._is_shown = False

    def draw(self, done: int, failed: int) -> None:
        """Draw it, unless it was drawn a moment ago."""
        now_s = time.monotonic()
        if now_s - self._drawn_s < _DRAW_EVERY_S:
            return
        self._drawn_s, self._is_shown = now_s, True
        print(
            "\r" + bar_line(done, failed, self._total, done - self._began, now_s - self._began_s) + "\x1b[K",
            end="",
            file=sys.stderr,
            flush=True,
        )

    def clear(self) -> None:
        """Remove it from the screen."""
        if self._is_shown:
            self._is_shown = False
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def bar_line(done: int, failed: int, total: int, ended: int, seconds: float) -> str:
    """The line of the bar, when `ended` jobs have ended in so many seconds.

    >>> bar_line(50, 1, 200, 50, 10.0)
    '[######                  ] 50/200 25% 5.0/s ETA 30s 1 failed'
    """
    share = done / total if total else 1.0
    filled = "#" * int(share * _BAR_CHARS)
    text = f"[{filled.ljust(_BAR_CHARS)}] {done}/{total} {share:.0%}"
    if ended and seconds > 0:
        rate = ended / seconds
        text += f" {rate:.1f}/s ETA {duration_text((total - done) / rate)}"
    return text + (f" {failed} failed" if failed else "")


def duration_text(seconds: float) -> str:
    """A duration for people.

    >>> duration_text(30), duration_text(95), duration_text(7300)
    ('30s', '1m35s', '2h01m')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"

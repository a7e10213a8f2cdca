"""Log lines that a lasting condition would repeat: logged once, then counted. Effects: the log.

```
  log ─▶ logged ─▶ counted … ─▶ each minute, and at the end: the last line with its count and duration
                      └─ a minute without: forgotten, the next line is logged at once
```
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from mpdispatch.clock import SECOND_US, Clock, SystemClock

_EVERY_US = 60 * SECOND_US
_KEYS_AT_MOST = 100
"""Limit of conditions counted at once; beyond it the oldest is summed up."""


@dataclass(slots=True)
class _Line:
    since_us: int
    left: int
    """How many more lines to log in full."""
    count: int = 0
    """How many lines were counted instead of logged."""
    level: int = logging.NOTSET
    message: str = ""
    args: tuple[object, ...] = ()
    extra: Mapping[str, object] | None = None


class Repeated:
    """Recent log lines by key. Used by one thread."""

    def __init__(self, log: logging.Logger, clock: Clock | None = None) -> None:
        self._log, self._clock = log, clock or SystemClock()
        self._lines: dict[Hashable, _Line] = {}

    def log(
        self,
        key: Hashable,
        level: int,
        message: str,
        *args: object,
        extra: Mapping[str, object] | None = None,
        count: int = 1,
        in_full: int = 1,
    ) -> None:
        """Log the line, or count it as `count` more if the key was logged within the last minute.

        The key names the condition, without facts that differ from line to line. `in_full`: how many lines to
        log before counting.
        """
        self.look()
        line = self._lines.get(key)
        if line is None:
            now_us = self._clock.now().boot_us
            if len(self._lines) >= _KEYS_AT_MOST:
                self._sum_up(next(iter(self._lines)), now_us)
            line = self._lines[key] = _Line(now_us, in_full)
        if line.left > 0:
            line.left -= 1
            self._log.log(level, message, *args, extra=extra)
        else:
            line.count += count
            line.level, line.message, line.args, line.extra = level, message, args, extra

    def over(self, key: Hashable) -> None:
        """The condition has ended: log its sum. The next line is logged at once."""
        if key in self._lines:
            self._sum_up(key, self._clock.now().boot_us)

    def next_due(self) -> int | None:
        """When the oldest line is a minute old (boottime µs), or None: there is no recent line."""
        if not self._lines:
            return None  # nearly always
        return min(line.since_us for line in self._lines.values()) + _EVERY_US

    def look(self) -> None:
        """Sum up the lines that are a minute old."""
        if not self._lines:
            return
        now_us = self._clock.now().boot_us
        for key in [key for key, line in self._lines.items() if now_us - line.since_us >= _EVERY_US]:
            line = self._sum_up(key, now_us)
            if line.count:
                # The condition lasts: only count during the next minute.
                self._lines[key] = _Line(now_us, 0)

    def close(self) -> None:
        """Sum up all lines."""
        for key in list(self._lines):
            self.over(key)

    def _sum_up(self, key: Hashable, now_us: int) -> _Line:
        line = self._lines.pop(key)
        if line.count:
            self._log.log(
                line.level,
                line.message + " (%d more of these in %d s)",
                *line.args,
                line.count,
                max(1, (now_us - line.since_us) // SECOND_US),
                extra={**(line.extra or {}), "times": line.count},
            )
        return line

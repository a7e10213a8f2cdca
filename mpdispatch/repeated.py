"""Log lines that a lasting condition would repeat: said once, then counted. Effects: the log.

```
  say ─▶ the line ─▶ counted … ─▶ every minute, and at its end: the last line, how often in how long
                        └─ a minute without: forgotten, the next is said at once
```
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from mpdispatch.clock import SECOND_US, Clock, SystemClock

__all__ = ["Repeated"]

_EVERY_US = 60 * SECOND_US
_KEYS_AT_MOST = 100
"""More different conditions at once are not told apart for long: the oldest is summed up."""


@dataclass(slots=True)
class _Line:
    since_us: int
    left: int
    """How many more are said in full."""
    count: int = 0
    """How many were not said since."""
    level: int = logging.NOTSET
    message: str = ""
    args: tuple[object, ...] = ()
    extra: Mapping[str, object] | None = None


class Repeated:
    """What was said lately, by key. One thread."""

    def __init__(self, log: logging.Logger, clock: Clock | None = None) -> None:
        self._log, self._clock = log, clock or SystemClock()
        self._lines: dict[Hashable, _Line] = {}

    def say(
        self,
        key: Hashable,
        level: int,
        message: str,
        *args: object,
        extra: Mapping[str, object] | None = None,
        count: int = 1,
        in_full: int = 1,
    ) -> None:
        """Log it, or count it as `count` more of what was said under this key within the last minute.

        The key names the condition: facts that differ from line to line are not in it. `in_full`: so many are said
        before the others are counted.
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
        """The condition has ended: sum it up, and say the next one at once."""
        if key in self._lines:
            self._sum_up(key, self._clock.now().boot_us)

    def next_due(self) -> int | None:
        """When something is a minute old (boottime µs), or None: nothing was said lately."""
        if not self._lines:
            return None  # nearly always
        return min(line.since_us for line in self._lines.values()) + _EVERY_US

    def look(self) -> None:
        """Sum up what is a minute old."""
        if not self._lines:
            return
        now_us = self._clock.now().boot_us
        for key in [key for key, line in self._lines.items() if now_us - line.since_us >= _EVERY_US]:
            line = self._sum_up(key, now_us)
            if line.count:
                # It goes on: the next minute is only counted.
                self._lines[key] = _Line(now_us, 0)

    def close(self) -> None:
        """Sum up all there is."""
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

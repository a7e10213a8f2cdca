"""The kinds of schedules, and their slots. Pure.

A slot is a wall time in µs. Nothing here walks over a long stretch of slots, however close they are: a schedule finds
the next slot after a moment and the last one before it, and all else is made of these two.

Times at which clocks change, for schedules of fields: *Fixed* times, those whose hour field does not begin with `*`,
have one slot each, as Debian's cron has it: a time that does not exist has it at the first instant after the gap, a
time that occurs twice the first time. Several times of one gap are one slot. With `*` hours, a schedule has a slot
whenever a clock shows a matching time: it goes on through both changes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim

from mpdispatch.clock import EARLIEST_US, LATEST_US, SECOND_US
from mpdispatch.policy.cron.zones import (
    change_note,
    clock_of,
    first_change,
    first_instant,
    last_change,
    offset,
    passed_reading,
    reading_of,
    skipped_readings,
)

Kind = Literal["fields", "every", "once", "startup", "reboot"]


class Schedule(ABC):
    """When an entry has slots."""

    kind: Kind

    @abstractmethod
    def next(self, after_us: int) -> int | None:
        """The first slot later than `after_us`; None: there is none."""

    @abstractmethod
    def last(self, until_us: int, after_us: int = EARLIEST_US) -> int | None:
        """The latest slot up to `until_us` and later than `after_us`; None: there is none."""

    def slots(self, after_us: int, until_us: int) -> Iterator[int]:
        """The slots later than `after_us`, up to `until_us`, one by one."""
        slot_us = self.next(after_us)
        while slot_us is not None and slot_us <= until_us:
            yield slot_us
            slot_us = self.next(slot_us)

    def previous_n(self, until_us: int, after_us: int, n: int) -> list[int]:
        """The latest `n` slots up to `until_us` and later than `after_us`, in ascending order."""
        found: list[int] = []
        while len(found) < n and until_us > after_us and (slot_us := self.last(until_us, after_us)) is not None:
            found.append(slot_us)
            until_us = slot_us - 1
        found.reverse()
        return found

    def period_us(self, at_us: int) -> int | None:
        """How far the slots before (or at) and after a moment are apart; None: it has not one on both sides."""
        before_us, after_us = self.last(at_us), self.next(at_us)
        return None if before_us is None or after_us is None else after_us - before_us

    def note(self, slot_us: int) -> str:
        """What a change of clocks does to a slot, in words. Mostly it is ""."""
        return ""


class Fields(Schedule):
    """A slot whenever the clocks of a zone show a matching time."""

    kind = "fields"

    def __init__(self, fields: str, zone: ZoneInfo) -> None:
        """`fields` are five or six that CronSim takes."""
        self._fields, self._zone = fields, zone
        self._is_fixed = not fields.split()[-4].startswith("*")

    def next(self, after_us: int) -> int | None:
        found = _next(self, after_us // SECOND_US)
        return None if found is None else found * SECOND_US

    def last(self, until_us: int, after_us: int = EARLIEST_US) -> int | None:
        until, after = until_us // SECOND_US, after_us // SECOND_US
        if until <= after:
            return None
        try:
            found = self._last_fixed(until) if self._is_fixed else self._last_shown(until, after)
        except (OverflowError, ValueError):
            return None
        return None if found is None or found <= after else found * SECOND_US

    def note(self, slot_us: int) -> str:
        at = slot_us // SECOND_US
        reading = at + offset(self._zone, at)
        skipped = skipped_readings(self._zone, at)
        if self._is_fixed and skipped:
            match = self._reading_after(skipped[0] - 1)
            reading = reading if match is None else min(match, reading)
        return change_note(self._zone, at, reading)

    def has_slots(self) -> bool:
        """Whether there is a matching time at all. The calendar repeats itself within 50 years."""
        return self._reading_after(0) is not None

    def find_next(self, after: int) -> int | None:
        """As `next`, in seconds, without a memory."""
        try:
            return self._next_fixed(after) if self._is_fixed else self._next_shown(after)
        except (OverflowError, ValueError):  # beyond the year 9999
            return None

    def _next_fixed(self, after: int) -> int | None:
        reading = self._reading_after(passed_reading(self._zone, after))
        return None if reading is None else first_instant(self._zone, reading)

    def _last_fixed(self, until: int) -> int | None:
        reading = self._reading_until(passed_reading(self._zone, until))
        return None if reading is None else first_instant(self._zone, reading)

    def _next_shown(self, after: int) -> int | None:
        reading, since = after + offset(self._zone, after), after
        while (match := self._reading_after(reading)) is not None:
            slot = match - offset(self._zone, since)
            change = first_change(self._zone, since, slot)
            if change is None:
                return slot
            since, reading = change, change + offset(self._zone, change) - 1
        return None

    def _last_shown(self, until: int, after: int) -> int | None:
        while until > after:
            ahead = offset(self._zone, until)
            match = self._reading_until(until + ahead)
            if match is None:
                return None
            slot = match - ahead
            change = last_change(self._zone, until, slot)
            if change is None:
                return slot
            until = change - 1
        return None

    def _reading_after(self, reading: int) -> int | None:
        """The first matching reading later than this one. None: not within 50 years."""
        found = next(CronSim(self._fields, clock_of(reading)), None)
        return None if found is None else reading_of(found)

    def _reading_until(self, reading: int) -> int | None:
        """The last matching reading that is not later than this one. None: not within 50 years."""
        found = next(CronSim(self._fields, clock_of(reading + 1), reverse=True), None)
        return None if found is None else reading_of(found)


# Each look of a supervisor at an entry asks for the same few slots.
@lru_cache(maxsize=16_384)
def _next(schedule: Fields, after: int) -> int | None:
    return schedule.find_next(after)


class Every(Schedule):
    """A slot at the anchor, and at each whole number of intervals before and after it."""

    kind = "every"

    def __init__(self, interval_us: int, anchor_us: int) -> None:
        self.interval_us, self._anchor_us = interval_us, anchor_us

    def next(self, after_us: int) -> int | None:
        slot_us = self.last(after_us)
        slot_us = None if slot_us is None else slot_us + self.interval_us
        return None if slot_us is None or slot_us > LATEST_US else slot_us

    def last(self, until_us: int, after_us: int = EARLIEST_US) -> int | None:
        slot_us = until_us - (until_us - self._anchor_us) % self.interval_us
        return slot_us if slot_us > after_us else None


class Once(Schedule):
    """One slot."""

    kind = "once"

    def __init__(self, slot_us: int, note: str) -> None:
        self.slot_us, self._note = slot_us, note

    def next(self, after_us: int) -> int | None:
        return self.slot_us if self.slot_us > after_us else None

    def last(self, until_us: int, after_us: int = EARLIEST_US) -> int | None:
        return self.slot_us if after_us < self.slot_us <= until_us else None

    def note(self, slot_us: int) -> str:
        return self._note if slot_us == self.slot_us else ""


class Event(Schedule):
    """No slot by the clock: one whenever a supervisor starts, or the machine does."""

    def __init__(self, kind: Literal["startup", "reboot"]) -> None:
        self.kind = kind

    def next(self, after_us: int) -> int | None:
        return None

    def last(self, until_us: int, after_us: int = EARLIEST_US) -> int | None:
        return None

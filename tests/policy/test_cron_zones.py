"""Slots where clocks change: every zone, every change of eleven years, against a clock watched minute by minute."""

from bisect import bisect
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from zoneinfo import ZoneInfo, available_timezones

import pytest

from mpdispatch.policy.cron.expression import parse
from mpdispatch.policy.cron.zones import first_change, first_instant, last_change, passed_reading
from tests.policy.cron_times import DAY, SECOND, shown, us

ZONES = sorted(available_timezones())
FIRST, LAST = us("2020-01-01") // SECOND, us("2031-01-01") // SECOND
EPOCH = datetime(1970, 1, 1)
WATCHED_S = 4 * 3600
"""Before and after a change; no change of these years moves clocks further."""


def offset(zone: ZoneInfo, at: int) -> timedelta:
    return datetime.fromtimestamp(at, zone).utcoffset()


def differs(zone: ZoneInfo, low: int, at: int) -> bool:
    return offset(zone, at) != offset(zone, low)


@cache
def changes(name: str) -> tuple[int, ...]:
    """When the clocks of a zone change, to the minute; no two changes are within three days."""
    zone, found, low = ZoneInfo(name), [], FIRST
    while low < LAST:
        high = min(low + 3 * 86_400, LAST)
        if offset(zone, low) != offset(zone, high):
            minutes = range(low, high + 1, 60)
            found.append(minutes[bisect(minutes, False, key=partial(differs, zone, low))])
        low = high
    return tuple(found)


@cache
def zones_that_differ() -> list[str]:
    """One zone for each way to change clocks in these years."""
    offsets = {name: [offset(ZoneInfo(name), at) for at in (FIRST, *changes(name))] for name in ZONES}
    return list({(*changes(name), *offsets[name]): name for name in ZONES}.values())


FIXED = {
    "30 2 * * *": lambda clock: (clock.hour, clock.minute) == (2, 30),
    "*/20 0-3 * * *": lambda clock: clock.hour <= 3 and clock.minute % 20 == 0,
    "0 0,23 * * *": lambda clock: clock.hour in (0, 23) and clock.minute == 0,
    "15 1 * * SUN": lambda clock: (clock.hour, clock.minute, clock.weekday()) == (1, 15, 6),
    "0 45 23 L * *": lambda clock: (
        (clock.hour, clock.minute) == (23, 45) and (clock + timedelta(days=1)).day == 1
    ),
}
SHOWN = {
    "*/10 * * * *": lambda clock: clock.minute % 10 == 0,
    "30 */2 * * *": lambda clock: clock.hour % 2 == 0 and clock.minute == 30,
    "0 5 * * * SUN#1": lambda clock: clock.weekday() == 6 and clock.day <= 7 and clock.minute == 5,
}


@cache
def watch(zone: ZoneInfo, change: int) -> list[datetime]:
    """What a clock shows in each minute around a change."""
    return [
        datetime.fromtimestamp(at, zone).replace(tzinfo=None)
        for at in range(change - WATCHED_S, change + WATCHED_S, 60)
    ]


def slots_of_shown(start: int, clocks: list[datetime], matches) -> list[int]:
    return [start + 60 * index for index, clock in enumerate(clocks) if matches(clock)]


def slots_of_fixed(start: int, clocks: list[datetime], matches) -> list[int]:
    """As Debian's cron: each minute that a clock passes for the first time counts, shown or skipped."""
    found, passed = [], clocks[0] - timedelta(minutes=1)
    for index, clock in enumerate(clocks):
        is_slot = False
        while passed < clock:
            passed += timedelta(minutes=1)
            is_slot = is_slot or matches(passed)
        if is_slot:
            found.append(start + 60 * index)
    return found


def test_every_change_of_every_zone_is_found():
    for name in zones_that_differ():
        zone, found, after = ZoneInfo(name), [], FIRST
        while (change := first_change(zone, after, LAST)) is not None:
            found.append(change)
            after = change
        assert found == list(changes(name)), name
        assert last_change(zone, LAST, FIRST) == (found[-1] if found else None), name


@pytest.mark.parametrize("text", [*FIXED, *SHOWN])
def test_slots_are_those_of_a_clock_that_is_watched(text):
    matches, oracle = (FIXED[text], slots_of_fixed) if text in FIXED else (SHOWN[text], slots_of_shown)
    looked_at = 0
    for name in zones_that_differ():
        zone, schedule = ZoneInfo(name), parse(text, name)
        for change in changes(name):
            start = change - WATCHED_S
            expected = [at * SECOND for at in oracle(start, watch(zone, change), matches)]
            begin_us, end_us = start * SECOND - 1, (change + WATCHED_S) * SECOND - 1
            assert list(schedule.slots(begin_us, end_us)) == expected, (name, change)
            assert schedule.previous_n(end_us, begin_us, 10**6) == expected, (name, change)
            looked_at += 1
            at_us = (change + 1020 * (looked_at % 11 - 5)) * SECOND + 500_000
            assert schedule.next(at_us) == next(
                (each for each in expected if each > at_us), schedule.next(end_us)
            )
            assert (schedule.last(at_us, begin_us) or begin_us) == max(
                [each for each in expected if each <= at_us], default=begin_us
            ), (name, change)
    assert looked_at > 500


def test_a_reading_is_passed_from_its_first_instant_on():
    for name in zones_that_differ():
        zone = ZoneInfo(name)
        for change in changes(name):
            for clock in watch(zone, change)[::15]:
                reading = round((clock - EPOCH).total_seconds())
                at = first_instant(zone, reading)
                assert passed_reading(zone, at) >= reading > passed_reading(zone, at - 1), (name, clock)


# zone, schedule, from when, the slots after that and the notes of those that have one
EXAMPLES = [
    # Spring and autumn, an hour.
    ("Europe/Berlin", "30 2 * * *", "2026-03-28 12:00", ["2026-03-29 03:00+02:00", "2026-03-30 02:30+02:00"]),
    ("Europe/Berlin", "*/30 2 * * *", "2026-03-28 12:00", ["2026-03-29 03:00+02:00", "2026-03-30 02:00+02:00"]),
    ("Europe/Berlin", "0 30 2 * * *", "2026-10-24 12:00", ["2026-10-25 02:30+02:00", "2026-10-26 02:30+01:00"]),
    ("Europe/Berlin", "30 */2 * * *", "2026-10-25 00:45",
     ["2026-10-25 02:30+02:00", "2026-10-25 02:30+01:00", "2026-10-25 04:30+01:00"]),
    ("Europe/Berlin", "0 2-3 * * *", "2026-03-28 12:00", ["2026-03-29 03:00+02:00", "2026-03-30 02:00+02:00"]),
    ("America/New_York", "15 2 * * *", "2026-03-07 12:00", ["2026-03-08 03:00-04:00", "2026-03-09 02:15-04:00"]),
    ("America/New_York", "30 1 * * *", "2026-10-31 12:00", ["2026-11-01 01:30-04:00", "2026-11-02 01:30-05:00"]),
    # Half an hour.
    ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03 12:00", ["2026-10-04 02:30+11:00", "2026-10-05 02:15+11:00"]),
    ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04 12:00", ["2026-04-05 01:45+11:00", "2026-04-06 01:45+10:30"]),
    ("Australia/Lord_Howe", "*/15 * * * *", "2026-04-05 01:40+11:00",
     ["2026-04-05 01:45+11:00", "2026-04-05 01:30+10:30", "2026-04-05 01:45+10:30", "2026-04-05 02:00+10:30"]),
    # At midnight: the day begins at one, and half past eleven comes twice.
    ("Africa/Cairo", "@daily", "2026-04-23 12:00", ["2026-04-24 01:00+03:00", "2026-04-25 00:00+03:00"]),
    ("Africa/Cairo", "30 23 * * *", "2026-10-29 12:00", ["2026-10-29 23:30+03:00", "2026-10-30 23:30+02:00"]),
    ("Africa/Cairo", "30 * 29 10 *", "2026-10-29 22:45",
     ["2026-10-29 23:30+03:00", "2026-10-29 23:30+02:00", "2027-10-29 00:30+02:00"]),
    ("America/Sao_Paulo", "0 0 * * *", "2018-11-03 12:00", ["2018-11-04 01:00-02:00", "2018-11-05 00:00-02:00"]),
    # Rules that changed: no more summer time since 2019, summer time for ever since 2022, winter time in Ramadan.
    ("America/Sao_Paulo", "0 0 * * *", "2019-11-02 12:00", ["2019-11-03 00:00-03:00", "2019-11-04 00:00-03:00"]),
    ("Asia/Amman", "30 0 * * *", "2022-10-27 12:00", ["2022-10-28 00:30+03:00", "2022-10-29 00:30+03:00"]),
    ("Asia/Amman", "30 0 * * *", "2021-10-28 12:00", ["2021-10-29 00:30+03:00", "2021-10-30 00:30+02:00"]),
    ("Africa/Casablanca", "30 2 * * *", "2026-02-14 12:00", ["2026-02-15 02:30+01:00", "2026-02-16 02:30+00:00"]),
    ("Africa/Casablanca", "30 2 * * *", "2026-03-21 12:00", ["2026-03-22 03:00+01:00", "2026-03-23 02:30+01:00"]),
    # A day that was left out.
    ("Pacific/Apia", "@daily", "2011-12-29 12:00", ["2011-12-31 00:00+14:00", "2012-01-01 00:00+14:00"]),
    ("Pacific/Apia", "0 */12 * * *", "2011-12-29 01:00", ["2011-12-29 12:00-10:00", "2011-12-31 00:00+14:00"]),
]  # fmt: skip


@pytest.mark.parametrize(("tz", "text", "after", "expected"), EXAMPLES)
def test_examples_of_changes(tz, text, after, expected):
    schedule, slots, after_us = parse(text, tz), [], us(after, tz)
    for _ in expected:
        after_us = schedule.next(after_us)
        slots.append(shown(after_us, tz))
    assert slots == expected


NOTES = [
    ("Europe/Berlin", "30 2 * * *", "2026-03-29 03:00", "02:30 does not exist that day"),
    ("Europe/Berlin", "*/20 2 * * *", "2026-03-29 03:00", "02:00 does not exist that day"),
    ("Europe/Berlin", "0 3 * * *", "2026-03-29 03:00", ""),
    ("Europe/Berlin", "0 * * * *", "2026-03-29 03:00", ""),
    ("Europe/Berlin", "30 2 * * *", "2026-10-25 02:30+02:00", "first of two 02:30"),
    ("Europe/Berlin", "30 * * * *", "2026-10-25 02:30+01:00", "second of two 02:30"),
    ("Europe/Berlin", "30 2 * * *", "2026-10-26 02:30", ""),
    ("Europe/Berlin", "5 30 2 * * *", "2026-03-29 03:00", "02:30:05 does not exist that day"),
    ("Europe/Berlin", "@once 2026-03-29T02:30", "2026-03-29 03:00", "02:30 does not exist that day"),
    ("Europe/Berlin", "@once 2026-10-25T02:30", "2026-10-25 02:30+02:00", "first of two 02:30"),
    ("Europe/Berlin", "@once 2026-10-25T02:30+01:00", "2026-10-25 02:30+01:00", "second of two 02:30"),
]


@pytest.mark.parametrize(("tz", "text", "slot", "note"), NOTES)
def test_note_says_what_a_change_does_to_a_slot(tz, text, slot, note):
    schedule, slot_us = parse(text, tz), us(slot, tz)
    assert schedule.next(slot_us - 1) == slot_us
    assert schedule.note(slot_us) == note


def test_every_goes_on_in_elapsed_time():
    anchor = us("2026-10-24 12:00", "Europe/Berlin")
    slots = list(parse("@every 6h", "Europe/Berlin", anchor_us=anchor).slots(anchor, anchor + DAY))
    assert [each - anchor for each in slots] == [DAY // 4 * n for n in (1, 2, 3, 4)]
    assert shown(slots[-1], "Europe/Berlin") == "2026-10-25 11:00+01:00"


def test_year_of_utc_has_no_change():
    assert first_change(ZoneInfo("UTC"), FIRST, LAST) is None
    assert datetime.fromtimestamp(FIRST, UTC).year == 2020

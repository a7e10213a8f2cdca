"""How schedules are written, and the slots they mean where no clock changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.errors import UsageError
from mpdispatch.policy.cron.expression import ALIASES, WORDS, parse
from tests.policy.cron_times import DAY, HOUR, MINUTE, SECOND, us

MONDAY = us("2026-11-30 12:00")
MOMENTS = st.integers(us("1990-01-01"), us("2080-01-01"))

# schedule, the first slots after Monday, 30 November 2026, 12:00 UTC
MEANINGS = [
    ("30 3 * * *", ["2026-12-01 03:30", "2026-12-02 03:30"]),
    ("0 12 * * *", ["2026-12-01 12:00"]),
    ("15 0 3 * * *", ["2026-12-01 03:00:15"]),
    ("*/20 * * * * *", ["2026-11-30 12:00:20", "2026-11-30 12:00:40", "2026-11-30 12:01"]),
    ("5-20/10 12 * * *", ["2026-11-30 12:05", "2026-11-30 12:15", "2026-12-01 12:05"]),
    ("0 0 * JAN,mar *", ["2027-01-01", "2027-01-02"]),
    ("0 9 * * MON-fri", ["2026-12-01 09:00", "2026-12-02 09:00"]),
    ("0 9 * * 7", ["2026-12-06 09:00", "2026-12-13 09:00"]),
    ("0 9 * * 0", ["2026-12-06 09:00"]),
    ("0 0 L * *", ["2026-12-31", "2027-01-31", "2027-02-28"]),
    ("0 0 LW * *", ["2026-12-31", "2027-01-29", "2027-02-26"]),
    ("0 0 * * MON#2", ["2026-12-14", "2027-01-11"]),
    ("0 0 * * 5L", ["2026-12-25", "2027-01-29"]),
    ("0 0 29 2 *", ["2028-02-29", "2032-02-29"]),
    # Both days named: either; one of them with a star: both.
    ("0 0 13 * FRI", ["2026-12-04", "2026-12-11", "2026-12-13"]),
    ("0 0 */2 * FRI", ["2026-12-11", "2026-12-25"]),
    ("@hourly", ["2026-11-30 13:00", "2026-11-30 14:00"]),
    ("@daily", ["2026-12-01"]),
    ("@midnight", ["2026-12-01"]),
    ("@weekly", ["2026-12-06"]),
    ("@monthly", ["2026-12-01", "2027-01-01"]),
    ("@Yearly", ["2027-01-01"]),
    ("@annually", ["2027-01-01"]),
    ("@once 2026-12-01T03:00", ["2026-12-01 03:00"]),
    ("@once 2026-12-01T03:00+02:00", ["2026-12-01 01:00"]),
    ("@once 2026-12-01 03:00:00.25", ["2026-12-01 03:00:00.25"]),
    ("  0   3 * * *\t", ["2026-12-01 03:00"]),
]


@pytest.mark.parametrize(("text", "expected"), MEANINGS, ids=[text for text, _ in MEANINGS])
def test_schedule_has_the_slots_it_names(text, expected):
    schedule = parse(text, "UTC")
    slots, after_us = [], MONDAY
    for _ in expected:
        after_us = schedule.next(after_us)
        slots.append(after_us)
    assert slots == [us(each) for each in expected]


def test_once_has_no_slot_but_its_own():
    schedule = parse("@once 2026-12-01T03:00", "Europe/Berlin")
    slot = us("2026-12-01 03:00", "Europe/Berlin")
    assert (schedule.next(slot - 1), schedule.next(slot)) == (slot, None)
    assert (schedule.last(slot), schedule.last(slot - 1), schedule.last(slot, slot)) == (slot, None, None)


@pytest.mark.parametrize("word", ["@startup", "@reboot"])
def test_events_have_no_slot_by_the_clock(word):
    schedule = parse(word, "UTC")
    assert (schedule.kind, schedule.next(MONDAY), schedule.last(MONDAY)) == (word[1:], None, None)


@pytest.mark.parametrize(
    ("text", "interval"), [("90s", 90 * SECOND), ("1h30m", 90 * MINUTE), ("1.5", 1_500_000), ("1d", DAY)]
)
def test_every_counts_from_its_anchor(text, interval):
    schedule = parse(f"@every {text}", "Europe/Berlin", anchor_us=MONDAY + 7)
    assert schedule.next(MONDAY + 7) == MONDAY + 7 + interval
    assert schedule.next(MONDAY + 6) == MONDAY + 7
    assert schedule.last(MONDAY + 6) == MONDAY + 7 - interval
    assert schedule.period_us(MONDAY) == interval


WRONG = [
    ("60 * * * *", "schedule: the minute must be 0-59, "),
    ("* 24 * * *", "schedule: the hour must be 0-23, "),
    ("* * 0 * *", "schedule: the day of month must be 1-31, L "),
    ("* * * 13 *", "schedule: the month must be 1-12 or JAN-DEC, "),
    ("* * * * 8", "schedule: the day of week must be 0-7 "),
    ("* * * * FRI-MON", "schedule: the day of week must be 0-7 "),
    ("* * * * MON#6", "MON#2 (the second Monday)"),
    ("60 * * * * *", "schedule: the second must be 0-59, "),
    ("*/0 * * * *", "a step such as */2, not '*/0'"),
    ("1,,2 * * * *", "not '1,,2'"),
    ("", "must have five fields"),
    ("* * * *", "must have five fields"),
    ("* * * * * * *", "six (second first)"),
    ("0 0 30 2 *", "'0 0 30 2 *' names a day that never comes"),
    ("0 0 31 2,4,6,9,11 *", "names a day that never comes"),
    ("@dayly", "did you mean @daily?"),
    ("@", "must be one of @yearly"),
    ("@daily 3", "@daily stands alone, without '3'"),
    ("@every", "schedule: @every: must be a duration such as"),
    ("@every 0.999s", "@every must be at least 1 s, not '0.999s'"),
    ("@every -1", "schedule: @every: must be"),
    ("@every 101x", "schedule: @every: must be"),
    ("@every 40000d", "a hundred years"),
    ("@once", "@once must be followed by a time such as 2026-12-01T03:00, not ''"),
    ("@once 2026-13-01", "@once must be followed by a time"),
    ("@once 0001-01-01T00:00+10:00", "@once must be followed by a time"),
    ("9" * 5000, "at most 1000 characters, not 5000"),
    (None, "must be text such as '0 3 * * *', not None"),
]


@pytest.mark.parametrize(("text", "fault"), WRONG, ids=[str(text)[:30] for text, _ in WRONG])
def test_wrong_schedule_is_refused_with_what_is_allowed(text, fault):
    with pytest.raises(UsageError) as refused:
        parse(text, "UTC")
    assert str(refused.value).startswith("schedule: ")
    assert fault in str(refused.value)


@pytest.mark.parametrize(
    "tz", ["", "Europe/Berln", "America", "../zone", "/etc/localtime", "right/UTC", "tzdata.zi", "\0", 3, None]
)
def test_wrong_zone_is_refused(tz):
    with pytest.raises(UsageError, match=r"^tz: must be the name of a zone such as 'Europe/Berlin'"):
        parse("* * * * *", tz)


def test_a_zone_that_was_mistyped_is_guessed():
    with pytest.raises(UsageError, match="did you mean 'Europe/Berlin'"):
        parse("* * * * *", "Europe/Berln")


TERMS = st.sampled_from(
    ["*", "1", "5-7", "*/7", "0-30/10", "MON#1", "5L", "L", "LW", "JAN", "7", "0", "1,3", "30"]
)


def refusal(text):
    try:
        parse(text, "UTC")
    except UsageError as refused:
        return str(refused)
    return None


@given(st.lists(TERMS, min_size=5, max_size=6).map(" ".join) | st.text(max_size=30))
def test_any_text_is_a_schedule_or_refused(text):
    fault = refusal(text)
    if fault is None:
        schedule = parse(text, "UTC")
        assert schedule.kind != "fields" or schedule.next(MONDAY) is not None
    else:
        assert fault.startswith("schedule: ")


@given(st.sampled_from([text for text, _ in MEANINGS] + list(ALIASES) + ["@every 77s"]), MOMENTS)
def test_next_and_last_agree(text, at_us):
    schedule = parse(text, "America/New_York", anchor_us=MONDAY)
    after, before = schedule.next(at_us), schedule.last(at_us)
    assert after is None or (after > at_us and schedule.last(after) == after)
    assert before is None or (before <= at_us and schedule.last(before) == before)
    if after is not None:
        assert schedule.last(after - 1) == before
    if before is not None:
        assert schedule.next(before) == after
        assert schedule.last(at_us, before) is None
    if after is not None and before is not None:
        assert schedule.period_us(at_us) == after - before


@given(MOMENTS, st.integers(0, 3 * DAY), st.integers(0, 8))
def test_the_latest_n_are_the_end_of_all(until_us, length_us, n):
    schedule = parse("*/25 */3 * * *", "Europe/Berlin")
    slots = list(schedule.slots(until_us - length_us, until_us))
    assert schedule.previous_n(until_us, until_us - length_us, n) == (slots[-n:] if n else [])
    assert slots == sorted(set(slots))


def test_the_last_slots_of_a_thousand_years_are_found_at_once():
    schedule = parse("* * * * * *", "Europe/Berlin")
    assert schedule.previous_n(MONDAY, MONDAY - 1000 * 365 * DAY, 3) == [
        MONDAY - 2 * SECOND,
        MONDAY - SECOND,
        MONDAY,
    ]


@pytest.mark.parametrize("text", ["0 3 * * *", "* * * * *", "@every 90s"])
def test_there_is_no_slot_beyond_what_a_datetime_can_show(text):
    schedule = parse(text, "Pacific/Auckland")
    assert schedule.next(us("9999-12-31 23:59:59")) is None
    assert schedule.last(us("0001-01-01 00:00")) is None or text.startswith("@every")


def test_words_are_all_read():
    for word in WORDS:
        rest = {"@every": " 1h", "@once": " 2030-01-01"}.get(word, "")
        assert parse(word + rest, "UTC").kind in ("fields", "every", "once", "startup", "reboot")
    assert parse("@hourly", "UTC").period_us(MONDAY) == HOUR

"""What entries will do, and why they did not, in words."""

import pytest

from mpdispatch.model import SkippedSlots
from mpdispatch.policy.cron.due import NO_SUPERVISOR, ONLY_LATEST
from mpdispatch.policy.cron.plan import run_at_us
from mpdispatch.policy.cron.preview import explain, preview
from tests.policy.cron_entries import COMPLETED, NOON, entry_of, open_firing, spec_of
from tests.policy.cron_times import DAY, HOUR, MINUTE, SECOND, us


def rows(of, *, count=2, since_us=NOON, now_us=NOON):
    return [tuple(each) for each in preview(of, count=count, since_us=since_us, now_us=now_us)]


def test_preview_shows_the_next_slots():
    spec = spec_of("0 * * * *", jitter_us=MINUTE)
    assert rows(spec) == [(each, run_at_us(spec, each), "") for each in (NOON + HOUR, NOON + 2 * HOUR)]
    assert rows(spec, since_us=NOON + DAY, count=1)[0][0] == NOON + DAY + HOUR
    assert rows(spec, count=0) == []


def test_preview_keeps_to_the_window():
    spec = spec_of("0 * * * *", starts_at_us=NOON + 3 * HOUR, ends_at_us=NOON + 4 * HOUR)
    assert [row[0] for row in rows(spec, count=9)] == [NOON + 3 * HOUR, NOON + 4 * HOUR]


def test_preview_notes_what_clocks_do():
    now_us = us("2026-03-28 12:00", "Europe/Berlin")
    (row,) = rows(spec_of("30 2 * * *", tz="Europe/Berlin"), count=1, since_us=now_us, now_us=now_us)
    slot_us = us("2026-03-29 03:00", "Europe/Berlin")
    assert row == (slot_us, slot_us, "02:30 does not exist that day")


THREE_DAYS = NOON + 3 * DAY + 5
HOURS = [NOON + n * HOUR for n in range(1, 74)]


def test_preview_shows_what_the_latest_slot_catches_up():
    assert rows(spec_of("0 * * * *"), now_us=THREE_DAYS) == [
        (HOURS[0], HOURS[0], f"skipped, as all slots until 2026-12-03 11:00+00:00: {ONLY_LATEST}"),
        (HOURS[71], THREE_DAYS, "catches up"),
        (HOURS[72], HOURS[72], ""),
        (HOURS[72] + HOUR, HOURS[72] + HOUR, ""),
    ]


def test_preview_shows_that_nothing_catches_up():
    found = rows(spec_of("0 * * * *", catch_up="skip", overlap="queue"), now_us=THREE_DAYS, count=0)
    assert found == [
        (HOURS[0], HOURS[0], f"skipped, as all slots until 2026-12-03 12:00+00:00: {NO_SUPERVISOR}")
    ]


def test_preview_shows_all_that_catch_up_with_what_clocks_did():
    now_us = us("2026-03-30 12:00", "Europe/Berlin")
    spec = spec_of("30 2 * * *", tz="Europe/Berlin", catch_up="all", catch_up_limit=2, overlap="replace")
    found = rows(spec, since_us=now_us - 3 * DAY, now_us=now_us, count=0)
    assert [(row[1] - now_us, row[2].split(":")[0]) for row in found[1:]] == [
        (0, "catches up; 02"),
        (30 * SECOND, "catches up"),
    ]
    assert found[0][2].startswith("skipped: missed")
    assert found[1][2] == "catches up; 02:30 does not exist that day"


def test_preview_of_an_interval_goes_on_from_the_entry():
    entry = entry_of("@every 1h", at_us=NOON - 5 * MINUTE)
    assert [row[0] for row in rows(entry)] == [NOON + 55 * MINUTE, NOON + 115 * MINUTE]
    assert [row[0] for row in rows(entry.spec)] == [NOON + HOUR, NOON + 2 * HOUR]
    assert [row[0] for row in rows(entry.spec, since_us=NOON + 90 * MINUTE, count=1)] == [NOON + 2 * HOUR]
    assert [row[0] for row in rows(entry, since_us=NOON - HOUR, count=1)] == [
        NOON - 5 * MINUTE,
        NOON + 55 * MINUTE,
    ]


def test_events_have_no_preview():
    assert rows(spec_of("@startup"), since_us=NOON - DAY) == []


# fields of the spec, fields of the entry, how long after noon, the reasons
REASONS = [
    ({}, {}, 0, ["its next slot is 2026-11-30 13:00+00:00"]),
    ({}, {}, HOUR, ["its slot 2026-11-30 13:00+00:00 is due: a supervisor fires it at its next look"]),
    ({}, {"is_enabled": False}, DAY, ["it is disabled, so it does not fire"]),
    (
        {},
        {"is_orphan": True, "app": "shop:engine", "is_enabled": False},
        DAY,
        [
            "it is an orphan: shop:engine does not declare it any more, so it does not fire",
            "it is disabled, so it does not fire",
        ],
    ),
    ({"starts_at_us": NOON + 90 * SECOND}, {}, 0, ["it fires from 2026-11-30 12:01:30+00:00 on (starts_at)"]),
    ({"ends_at_us": NOON + MINUTE}, {}, DAY, ["it fires no more since 2026-11-30 12:01+00:00 (ends_at)"]),
    ({"ends_at_us": NOON + MINUTE}, {}, 0, ["it has no more slots"]),
    (
        {"overlap": "queue"},
        {"open": (open_firing(41),)},
        HOUR,
        ["job 41 has not ended: slots wait for that (overlap: queue)"],
    ),
    (
        {"overlap": "skip"},
        {"open": (open_firing(41), open_firing(42))},
        HOUR,
        ["2 jobs (41 …) have not ended: slots are skipped until then (overlap: skip)"],
    ),
    (
        {"overlap": "skip"},
        {"open": (open_firing(41, COMPLETED),)},
        1,
        ["its next slot is 2026-11-30 13:00+00:00"],
    ),
    ({}, {"open": (open_firing(41),)}, 1, ["its next slot is 2026-11-30 13:00+00:00"]),
    (
        {},
        {},
        2 * HOUR,
        [
            "its slot 2026-11-30 13:00+00:00 is due: a supervisor fires it at its next look",
            "it is late since 2026-11-30 14:00+00:00: no job of it has completed yet",
        ],
    ),
    (
        {"late_after_us": MINUTE},
        {"last_success_us": NOON + 5 * MINUTE},
        30 * MINUTE,
        [
            "its next slot is 2026-11-30 13:00+00:00",
            "it is late since 2026-11-30 12:06+00:00: no job of it has completed since 2026-11-30 12:05+00:00",
        ],
    ),
]


@pytest.mark.parametrize(("spec", "fields", "after", "reasons"), REASONS)
def test_explain_says_what_holds_an_entry_back(spec, fields, after, reasons):
    assert explain(entry_of("0 * * * *", entry=fields, **spec), now_us=NOON + after) == reasons


def test_explain_says_what_comes_besides_the_clock():
    assert explain(entry_of("@once 2026-11-30T11:00"), now_us=NOON) == [
        "it has no more slots: its slot was 2026-11-30 11:00+00:00"
    ]
    assert explain(entry_of("@startup"), now_us=NOON) == [
        "it has no slots by the clock: it fires when a supervisor starts"
    ]
    assert "first time after a boot" in explain(entry_of("@reboot"), now_us=NOON)[0]


def test_explain_notes_what_clocks_do():
    at_us = us("2026-03-28 12:00", "Europe/Berlin")
    assert explain(entry_of("30 2 * * *", tz="Europe/Berlin", at_us=at_us), now_us=at_us) == [
        "its next slot is 2026-03-29 03:00+02:00 (02:30 does not exist that day)"
    ]


def test_explain_names_the_last_slots_that_were_skipped():
    skipped = [
        SkippedSlots(NOON - HOUR, NOON - HOUR, "overlap: job 41 had not ended", NOON),
        SkippedSlots(NOON - DAY, NOON - 2 * HOUR, NO_SUPERVISOR, NOON),
    ]
    assert explain(entry_of("0 * * * *", tz="Asia/Tokyo"), now_us=NOON, skipped=skipped)[1:] == [
        "its slot 2026-11-30 20:00+09:00 was skipped: overlap: job 41 had not ended",
        f"its slots from 2026-11-29 21:00+09:00 to 2026-11-30 19:00+09:00 were skipped: {NO_SUPERVISOR}",
    ]

"""What is decided about entries: each rule by an example, and all of them together on random lives."""

import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpdispatch.model import Firing
from mpdispatch.policy.cron.due import MAX_FIRES, NO_SUPERVISOR, ONLY_LATEST
from mpdispatch.policy.cron.expression import schedule_of
from mpdispatch.policy.cron.overlap import REPLACED
from mpdispatch.policy.cron.plan import next_look_us, run_at_us
from tests.policy.cron_entries import (
    COMPLETED,
    FAILED,
    NOON,
    RUNNING,
    applied,
    decide,
    entry_of,
    open_firing,
    spec_of,
)
from tests.policy.cron_times import DAY, HOUR, MINUTE, SECOND

CHANGED = {"is_enabled": False}, {"is_orphan": True}


def slots(decision):
    return [each.slot_us for each in decision.fires]


def ranges(decision):
    return [(each.first_us, each.last_us, each.reason) for each in decision.skips]


# -- in time ---------------------------------------------------------------------------------------------


def test_nothing_is_decided_before_a_slot():
    assert decide(entry_of(), NOON + MINUTE - 1) is None


def test_slot_fires_when_it_has_come():
    now_us = NOON + MINUTE + 5
    decision = decide(entry_of(entry={"revision": 3}), now_us)
    assert decision.fires == [Firing(NOON + MINUTE, NOON + MINUTE)]
    assert (decision.cron_id, decision.revision) == (7, 3)
    assert (decision.decided_until_us, decision.next_slot_us) == (now_us, NOON + 2 * MINUTE)
    assert (decision.skips, decision.cancels, decision.closes) == ([], [], [])


def test_all_slots_fire_that_came_while_somebody_was_present():
    decision = decide(entry_of(catch_up="skip"), NOON + 5 * MINUTE)
    assert slots(decision) == [NOON + n * MINUTE for n in range(1, 6)]
    assert decision.skips == []


@pytest.mark.parametrize("changed", CHANGED)
def test_disabled_entries_and_orphans_do_not_fire(changed):
    assert decide(entry_of(entry=changed), NOON + HOUR) is None
    assert next_look_us(entry_of(entry=changed), NOON) is None


def test_slots_outside_the_window_are_none():
    entry = entry_of(starts_at_us=NOON + 3 * MINUTE, ends_at_us=NOON + 4 * MINUTE)
    assert entry.next_slot_us == NOON + 3 * MINUTE
    assert decide(entry, NOON + 3 * MINUTE - 1) is None
    decision = decide(entry, NOON + HOUR)
    assert slots(decision) == [NOON + 3 * MINUTE, NOON + 4 * MINUTE]
    assert decision.next_slot_us is None
    assert decide(applied(entry, decision, NOON + HOUR, {}), NOON + DAY) is None


def test_slot_is_in_the_window_that_begins_with_it():
    begin = NOON + 90 * SECOND
    entry = entry_of("@every 1m", starts_at_us=begin)
    assert slots(decide(entry, NOON + 2 * MINUTE)) == [NOON + 2 * MINUTE]


def test_many_slots_fire_in_several_decisions():
    entry, now_us, fired, most = entry_of("* * * * * *"), NOON + 2500 * SECOND, {}, []
    while (decision := decide(entry, now_us)) is not None:
        most.append(len(decision.fires))
        entry = applied(entry, decision, now_us, fired)
    assert most == [MAX_FIRES, MAX_FIRES, 500]
    assert sorted(fired) == [NOON + n * SECOND for n in range(1, 2501)]


# -- missed ----------------------------------------------------------------------------------------------

BACK = NOON + HOUR + 30 * SECOND
"""When the supervisor is back after an hour; the last missed slot is NOON + HOUR."""


def test_missed_slots_are_skipped():
    decision = decide(entry_of(catch_up="skip"), BACK, present_since_us=BACK)
    assert (slots(decision), ranges(decision)) == ([], [(NOON + MINUTE, NOON + HOUR, NO_SUPERVISOR)])
    assert (decision.decided_until_us, decision.next_slot_us) == (BACK, NOON + HOUR + MINUTE)


def test_the_latest_missed_slot_fires_at_once():
    decision = decide(entry_of(catch_up="latest", jitter_us=HOUR), BACK, present_since_us=BACK)
    assert decision.fires == [Firing(NOON + HOUR, BACK)]
    assert ranges(decision) == [(NOON + MINUTE, NOON + HOUR - MINUTE, ONLY_LATEST)]


def test_the_only_missed_slot_fires():
    entry = entry_of("0 13 * * *")
    decision = decide(entry, BACK, present_since_us=BACK)
    assert (slots(decision), decision.skips) == ([NOON + HOUR], [])


def test_all_missed_slots_fire_spread_over_a_minute():
    decision = decide(entry_of(catch_up="all", catch_up_limit=60), BACK, present_since_us=BACK)
    assert slots(decision) == [NOON + n * MINUTE for n in range(1, 61)]
    assert [each.run_at_us for each in decision.fires] == [BACK + n * SECOND for n in range(60)]
    assert decision.skips == []


def test_missed_slots_of_a_short_period_are_spread_over_that():
    entry = entry_of("*/10 * * * * *", catch_up="all", catch_up_limit=5)
    decision = decide(entry, BACK + 1, present_since_us=BACK + 1)
    assert [each.run_at_us - BACK - 1 for each in decision.fires] == [n * 2 * SECOND for n in range(5)]


def test_more_missed_slots_than_the_limit_are_skipped_the_oldest_first():
    decision = decide(entry_of(catch_up="all", catch_up_limit=3), BACK, present_since_us=BACK)
    assert slots(decision) == [NOON + HOUR - 2 * MINUTE, NOON + HOUR - MINUTE, NOON + HOUR]
    reason = f"{NO_SUPERVISOR}, and 3 later slots catch up (catch_up_limit)"
    assert ranges(decision) == [(NOON + MINUTE, NOON + HOUR - 3 * MINUTE, reason)]


def test_slots_after_somebody_was_back_fire_besides():
    decision = decide(entry_of(catch_up="skip"), BACK + 2 * MINUTE, present_since_us=BACK)
    assert slots(decision) == [NOON + 61 * MINUTE, NOON + 62 * MINUTE]
    assert ranges(decision) == [(NOON + MINUTE, NOON + HOUR, NO_SUPERVISOR)]


def test_slot_at_the_moment_of_presence_is_not_missed():
    since_us = NOON + 10 * MINUTE
    assert slots(decide(entry_of(catch_up="skip"), since_us, present_since_us=since_us)) == [since_us]


def test_a_short_restart_misses_what_passed_meanwhile():
    now_us = NOON + 10 * SECOND
    decision = decide(entry_of("* * * * * *", catch_up="skip"), now_us, present_since_us=now_us)
    assert slots(decision) == [now_us]
    assert ranges(decision) == [(NOON + SECOND, NOON + 9 * SECOND, NO_SUPERVISOR)]


def test_once_catches_up():
    entry = entry_of("@once 2026-11-30T12:30")
    assert decide(entry, NOON + 30 * MINUTE - 1) is None
    decision = decide(entry, NOON + DAY, present_since_us=NOON + DAY)
    assert (slots(decision), decision.next_slot_us) == ([NOON + 30 * MINUTE], None)


@pytest.mark.parametrize("catch_up", ["skip", "latest", "all"])
@pytest.mark.parametrize("overlap", ["allow", "skip", "queue", "replace"])
def test_ten_years_without_a_supervisor_are_decided_in_milliseconds(catch_up, overlap):
    entry = entry_of("* * * * * *", tz="Europe/Berlin", catch_up=catch_up, overlap=overlap, catch_up_limit=50)
    now_us = NOON + 3653 * DAY
    began = time.process_time()
    decision = decide(entry, now_us, present_since_us=now_us)
    assert time.process_time() - began < 0.2  # there are 316 million slots
    assert decision.skips[0].first_us == NOON + SECOND
    assert len(decision.skips) <= 2


# -- the clock -------------------------------------------------------------------------------------------


def test_clock_set_back_goes_on_from_now():
    place = {"decided_until_us": NOON + DAY, "next_slot_us": NOON + DAY + MINUTE}
    entry = entry_of(catch_up="skip", entry=place)
    decision = decide(entry, NOON)
    assert (decision.fires, decision.skips) == ((), ())
    assert (decision.decided_until_us, decision.next_slot_us) == (NOON, NOON + MINUTE)
    again = applied(entry, decision, NOON, {})
    assert decide(again, NOON) is None
    # A presence that began on the other clock does not make slots of this one missed.
    assert slots(decide(again, NOON + MINUTE, present_since_us=NOON + DAY - HOUR)) == [NOON + MINUTE]


def test_clock_that_is_slewed_changes_nothing():
    entry = entry_of(entry={"decided_until_us": NOON + SECOND // 2})
    assert decide(entry, NOON) is None


def test_interval_begins_anew_when_the_clock_was_set_back():
    entry = entry_of(
        "@every 30s", entry={"decided_until_us": NOON + DAY, "next_slot_us": NOON + DAY + 30 * SECOND}
    )
    now_us = NOON + 7
    decision = decide(entry, now_us)
    assert (decision.decided_until_us, decision.next_slot_us) == (now_us, now_us + 30 * SECOND)
    again = applied(entry, decision, now_us, {})
    assert slots(decide(again, now_us + 61 * SECOND)) == [now_us + 30 * SECOND, now_us + 60 * SECOND]


def test_interval_goes_on_when_the_clock_was_set_back_by_less_than_one():
    entry = entry_of(
        "@every 30s", entry={"decided_until_us": NOON + 5 * SECOND, "next_slot_us": NOON + 30 * SECOND}
    )
    assert decide(entry, NOON) is None


def test_clock_set_forth_misses_what_it_jumped_over():
    decision = decide(entry_of(), NOON + DAY + 1, present_since_us=NOON + DAY + 1)
    assert slots(decision) == [NOON + DAY]
    assert ranges(decision) == [(NOON + MINUTE, NOON + DAY - MINUTE, ONLY_LATEST)]


def test_next_slot_follows_new_rules_of_a_zone():
    entry = entry_of("0 13 * * *", entry={"next_slot_us": NOON + 2 * HOUR})
    decision = decide(entry, NOON + 1)
    assert (decision.decided_until_us, decision.next_slot_us) == (NOON, NOON + HOUR)
    assert decide(applied(entry, decision, NOON + 1, {}), NOON + 2) is None


# -- overlap ---------------------------------------------------------------------------------------------


def waiting(overlap, *firings, schedule="* * * * *", **fields):
    return entry_of(schedule, overlap=overlap, late_after_us=DAY, entry={"open": firings}, **fields)


def test_overlap_is_allowed():
    decision = decide(waiting("allow", open_firing()), NOON + MINUTE)
    assert (slots(decision), decision.cancels) == ([NOON + MINUTE], [])


def test_overlapping_slots_are_skipped():
    decision = decide(waiting("skip", open_firing(41)), NOON + 2 * MINUTE)
    assert slots(decision) == []
    assert ranges(decision) == [(NOON + MINUTE, NOON + 2 * MINUTE, "overlap: job 41 had not ended")]
    assert decision.decided_until_us == NOON + 2 * MINUTE


def test_of_two_slots_that_come_together_the_second_overlaps_with_the_first():
    decision = decide(waiting("skip", open_firing(41, FAILED)), NOON + 2 * MINUTE)
    assert slots(decision) == [NOON + MINUTE]
    reason = "overlap: the job of the slot before had not ended"
    assert ranges(decision) == [(NOON + 2 * MINUTE, NOON + 2 * MINUTE, reason)]
    assert decision.closes == [NOON]


def test_overlapping_slots_wait_in_a_queue_and_fire_one_by_one():
    entry, now_us = waiting("queue", open_firing(41)), NOON + 2 * MINUTE + 5
    assert decide(entry, now_us) is None
    assert next_look_us(entry, now_us) == now_us
    entry = msgspec.structs.replace(entry, open=(open_firing(41, COMPLETED, completed_at_us=now_us),))
    decision = decide(entry, now_us)
    assert (slots(decision), decision.closes) == ([NOON + MINUTE], [NOON])
    assert NOON + MINUTE <= decision.decided_until_us < NOON + 2 * MINUTE == decision.next_slot_us
    entry = applied(entry, decision, now_us, {})
    assert decide(entry, now_us) is None
    ended = [msgspec.structs.replace(each, state=FAILED) for each in entry.open]
    assert slots(decide(msgspec.structs.replace(entry, open=tuple(ended)), now_us)) == [NOON + 2 * MINUTE]


def test_queue_holds_no_more_than_its_limit():
    entry = waiting("queue", open_firing(), catch_up_limit=2)
    assert decide(entry, NOON + 2 * MINUTE) is None
    decision = decide(entry, NOON + 4 * MINUTE)
    assert slots(decision) == []
    reason = "overlap: 2 later slots wait already (catch_up_limit)"
    assert ranges(decision) == [(NOON + MINUTE, NOON + 2 * MINUTE, reason)]
    assert decision.next_slot_us == NOON + 3 * MINUTE
    assert decide(applied(entry, decision, NOON + 4 * MINUTE, {}), NOON + 4 * MINUTE) is None


def test_a_long_queue_is_cut_in_several_decisions():
    entry, now_us, rounds = (
        waiting("queue", open_firing(), schedule="* * * * * *", catch_up_limit=MAX_FIRES),
        NOON + 2500 * SECOND,
        0,
    )
    entry = msgspec.structs.replace(
        entry, decided_until_us=NOON + 1490 * SECOND, next_slot_us=NOON + 1491 * SECOND
    )
    while (decision := decide(entry, now_us)) is not None:
        assert (decision.fires, len(decision.skips)) == ([], 1)
        entry, rounds = applied(entry, decision, now_us, {}), rounds + 1
    assert (entry.next_slot_us, rounds) == (NOON + 1501 * SECOND, 10)


def test_replaced_job_is_cancelled_once_and_the_slot_fires_after_its_end():
    entry, now_us = waiting("replace", open_firing(41), open_firing(42, slot_us=NOON - 1)), NOON + 3 * MINUTE
    decision = decide(entry, now_us)
    assert (slots(decision), decision.cancels) == ([], [41, 42])
    assert ranges(decision) == [(NOON + MINUTE, NOON + 2 * MINUTE, REPLACED)]
    assert decision.next_slot_us == NOON + 3 * MINUTE
    entry = applied(entry, decision, now_us, {})
    assert decide(entry, now_us + SECOND) is None
    ended = tuple(msgspec.structs.replace(each, state=COMPLETED) for each in entry.open)
    decision = decide(msgspec.structs.replace(entry, open=ended), now_us + SECOND)
    assert (slots(decision), decision.cancels) == ([NOON + 3 * MINUTE], [])


def test_slot_that_comes_again_does_not_replace_its_own_job():
    entry = waiting("replace", open_firing(41, slot_us=NOON + MINUTE))
    assert decide(entry, NOON + MINUTE).cancels == []
    assert decide(entry, NOON + 2 * MINUTE).cancels == [41]


def test_a_later_slot_replaces_the_one_that_waits():
    entry = waiting("replace", open_firing(41))
    entry = applied(entry, decide(entry, NOON + MINUTE), NOON + MINUTE, {})
    decision = decide(entry, NOON + 2 * MINUTE)
    assert ranges(decision) == [(NOON + MINUTE, NOON + MINUTE, REPLACED)]
    assert decision.next_slot_us == NOON + 2 * MINUTE


def test_of_slots_that_come_together_the_last_replaces_the_others():
    decision = decide(waiting("replace"), NOON + 3 * MINUTE)
    assert (slots(decision), decision.cancels) == ([NOON + 3 * MINUTE], [])
    assert ranges(decision) == [(NOON + MINUTE, NOON + 2 * MINUTE, REPLACED)]


@pytest.mark.parametrize(
    ("overlap", "slot_us", "due_us"), [("replace", 62 * MINUTE, 62), ("skip", MINUTE, 62.5)]
)
def test_of_missed_and_later_slots_only_the_missed_ones_are_due_now(overlap, slot_us, due_us):
    entry = waiting(overlap, catch_up="all", catch_up_limit=60)
    (firing,) = decide(entry, BACK + 2 * MINUTE, present_since_us=BACK).fires
    assert firing == Firing(NOON + slot_us, NOON + int(due_us * MINUTE))


# -- ends, lateness --------------------------------------------------------------------------------------


def test_ends_of_jobs_are_recorded_and_the_last_success_kept():
    ends = open_firing(41, COMPLETED, completed_at_us=NOON + 9), open_firing(42, FAILED, slot_us=NOON + 1)
    decision = decide(entry_of(entry={"open": (*ends, open_firing(43, slot_us=NOON + 2))}), NOON + 10)
    assert decision.closes == [NOON, NOON + 1]
    assert (decision.last_success_us, decision.decided_until_us) == (NOON + 9, NOON)
    assert (decision.fires, decision.next_slot_us) == ((), NOON + MINUTE)


def test_ends_wait_for_a_slot_that_is_near():
    entry = entry_of("*/5 * * * * *", entry={"open": (open_firing(41, COMPLETED, completed_at_us=NOON + 9),)})
    assert decide(entry, NOON + 10) is None
    assert decide(entry, NOON + 5 * SECOND).closes == [NOON]


@pytest.mark.parametrize("changed", CHANGED)
def test_ends_are_recorded_of_entries_that_no_longer_fire(changed):
    decision = decide(
        entry_of("* * * * * *", entry={"open": (open_firing(41, FAILED),), **changed}), NOON + HOUR
    )
    assert (decision.closes, decision.fires, decision.decided_until_us) == ([NOON], (), NOON)


def test_success_that_was_kept_stays():
    entry = entry_of(entry={"last_success_us": NOON - 5, "boot_id": "b1"})
    decision = decide(entry, NOON + MINUTE)
    assert (decision.last_success_us, decision.boot_id) == (NOON - 5, "b1")


def test_entry_becomes_late_and_is_no_more_after_a_success():
    entry, late_us = entry_of("0 0 1 1 *", late_after_us=HOUR), NOON + HOUR
    assert next_look_us(entry, NOON) == late_us
    assert decide(entry, late_us - 1) is None
    decision = decide(entry, late_us)
    assert (decision.late_since_us, decision.fires) == (late_us, ())
    entry = applied(entry, decision, late_us, {})
    assert decide(entry, late_us + DAY) is None
    assert next_look_us(entry, late_us + 1) == entry.next_slot_us
    success = open_firing(41, COMPLETED, completed_at_us=late_us + 5)
    decision = decide(msgspec.structs.replace(entry, open=(success,)), late_us + 6)
    assert (decision.late_since_us, decision.last_success_us) == (None, late_us + 5)


def test_disabling_ends_lateness():
    entry = entry_of(entry={"late_since_us": NOON, "is_enabled": False})
    assert decide(entry, NOON + HOUR).late_since_us is None


# -- starts and boots ------------------------------------------------------------------------------------


def test_startup_fires_once_for_each_start():
    entry, fired = entry_of("@startup"), {}
    for start_us in (NOON + 5, NOON + 100):
        decision = decide(entry, start_us + 50, starts_us=start_us)
        assert decision.fires == [Firing(start_us, start_us)]
        assert (decision.decided_until_us, decision.next_slot_us) == (start_us, None)
        entry = applied(entry, decision, start_us + 50, fired)
        assert decide(entry, start_us + 60, starts_us=start_us) is None
    assert len(fired) == 2


def test_startup_does_not_fire_for_a_start_before_the_entry():
    assert decide(entry_of("@startup"), NOON + MINUTE, starts_us=NOON - 1) is None
    assert decide(entry_of("@startup"), NOON + MINUTE) is None


def test_startup_fires_after_the_clock_was_set_back():
    entry = entry_of("@startup", entry={"decided_until_us": NOON + DAY})
    decision = decide(entry, NOON + 9, starts_us=NOON + 5)
    assert slots(decision) == [NOON + 5]
    assert decide(applied(entry, decision, NOON + 9, {}), NOON + 10, starts_us=NOON + 5) is None


@pytest.mark.parametrize("overlap", ["queue", "replace"])
def test_startup_waits_for_the_end_of_an_earlier_job(overlap):
    entry = waiting(overlap, open_firing(41), schedule="@startup")
    decision = decide(entry, NOON + 9, starts_us=NOON + 5)
    assert decision is None or (decision.cancels, slots(decision)) == ([41], [])
    if decision is not None:
        entry = applied(entry, decision, NOON + 9, {})
        assert decide(entry, NOON + 10, starts_us=NOON + 5) is None
    entry = msgspec.structs.replace(entry, open=(open_firing(41, FAILED),))
    assert slots(decide(entry, NOON + 20, starts_us=NOON + 5)) == [NOON + 5]


def test_reboot_fires_once_for_each_boot():
    entry, fired = entry_of("@reboot", entry={"boot_id": "b1"}), {}
    assert decide(entry, NOON + 1, boot_id="b1") is None
    decision = decide(entry, NOON + 2, boot_id="b2")
    assert (slots(decision), decision.boot_id) == ([NOON + 2], "b2")
    entry = applied(entry, decision, NOON + 2, fired)
    assert decide(entry, NOON + 3, boot_id="b2") is None
    assert slots(decide(entry, NOON + 4, boot_id="b3")) == [NOON + 4]


def test_reboot_fires_for_boots_later_than_the_entry_if_that_is_known():
    entry = entry_of("@reboot")
    assert decide(entry, NOON + HOUR, boot_id="b1", booted_us=NOON - 1) is None
    assert slots(decide(entry, NOON + HOUR, boot_id="b2", booted_us=NOON + 1)) == [NOON + HOUR]


def test_reboot_that_waits_is_not_forgotten():
    entry = waiting("queue", open_firing(41), schedule="@reboot")
    assert decide(entry, NOON + 1, boot_id="b1") is None
    entry = waiting("replace", open_firing(41), schedule="@reboot")
    decision = decide(entry, NOON + 9, boot_id="b1", starts_us=NOON + 5)
    assert (decision.cancels, decision.boot_id) == ([41], None)
    entry = applied(entry, decision, NOON + 9, {})
    assert decide(entry, NOON + 10, boot_id="b1", starts_us=NOON + 5) is None
    skipped = decide(waiting("skip", open_firing(41), schedule="@reboot"), NOON + 1, boot_id="b1")
    assert (ranges(skipped)[0][:2], skipped.boot_id) == ((NOON + 1, NOON + 1), "b1")


def test_events_outside_the_window_are_none():
    entry = entry_of("@startup", starts_at_us=NOON + HOUR, ends_at_us=NOON + 2 * HOUR)
    for start_us, expected in ((NOON + HOUR - 1, False), (NOON + HOUR, True), (NOON + 2 * HOUR + 1, False)):
        assert (decide(entry, start_us, starts_us=start_us) is not None) is expected


# -- jitter ----------------------------------------------------------------------------------------------


def test_jitter_is_the_same_for_one_slot_and_spreads_slots_and_entries():
    spec = spec_of(jitter_us=MINUTE)
    delays = [run_at_us(spec, NOON + n * HOUR) - NOON - n * HOUR for n in range(400)]
    assert delays == [run_at_us(spec, NOON + n * HOUR) - NOON - n * HOUR for n in range(400)]
    assert all(0 <= each < MINUTE for each in delays)
    assert all(70 < sum(each // (MINUTE // 4) == quarter for each in delays) < 130 for quarter in range(4))
    assert run_at_us(spec_of(name="other", jitter_us=MINUTE), NOON) != run_at_us(spec, NOON)
    # Whatever process asks, today or next year.
    assert delays[0] == 59_830_153
    assert run_at_us(spec_of(), NOON) == NOON


def test_job_of_a_slot_is_due_with_its_jitter():
    entry = entry_of(jitter_us=HOUR)
    (firing,) = decide(entry, NOON + MINUTE).fires
    assert firing.run_at_us == run_at_us(entry.spec, NOON + MINUTE) > NOON + MINUTE


# -- random lives ----------------------------------------------------------------------------------------

SCHEDULES = [
    "* * * * * *",
    "*/7 * * * * *",
    "* * * * *",
    "*/5 0-3 * * *",
    "@every 13s",
    "@once 2026-11-30T12:01",
]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["look", "look", "absent", "end", "back"]),
        st.integers(0, 200 * SECOND) | st.integers(0, 3 * HOUR),
    ),
    max_size=25,
)
SPECS = st.builds(
    entry_of,
    st.sampled_from(SCHEDULES),
    catch_up=st.sampled_from(["skip", "latest", "all"]),
    overlap=st.sampled_from(["allow", "skip", "queue", "replace"]),
    catch_up_limit=st.integers(1, 8),
    jitter_us=st.integers(0, MINUTE),
    starts_at_us=st.none() | st.integers(NOON - HOUR, NOON + HOUR),
    ends_at_us=st.none() | st.integers(NOON, NOON + 3 * HOUR),
)


def check_account(entry, decision, now_us):
    """Every slot that the decision leaves behind has fired or is in exactly one range, and no others are."""
    spec, until_us = entry.spec, decision.decided_until_us
    begin_us = max(entry.decided_until_us, (spec.starts_at_us or 0) - 1)
    end_us = min(until_us, spec.ends_at_us or until_us)
    schedule = schedule_of(entry)
    expected = list(schedule.slots(begin_us, end_us))
    skipped = [slot for each in decision.skips for slot in expected if each.first_us <= slot <= each.last_us]
    assert sorted([*slots(decision), *skipped]) == expected
    assert {edge for each in decision.skips for edge in (each.first_us, each.last_us)} <= set(skipped)
    assert entry.decided_until_us <= until_us <= now_us
    assert len(decision.skips) <= 2
    assert len(decision.fires) <= MAX_FIRES
    assert all(each.run_at_us >= each.slot_us for each in decision.fires)
    assert decision.next_slot_us == next(
        iter(schedule.slots(max(until_us, (spec.starts_at_us or 0) - 1), spec.ends_at_us or NOON + 365 * DAY)),
        None,
    )


@settings(max_examples=150)
@given(SPECS, STEPS)
def test_every_slot_of_a_life_fires_or_is_skipped_once(entry, steps):
    now_us, present_us, fired = NOON, NOON, {}
    for step, length_us in steps:
        if step == "end":
            ended = [msgspec.structs.replace(each, state=FAILED) for each in entry.open[: 1 + length_us % 3]]
            entry = msgspec.structs.replace(entry, open=(*ended, *entry.open[len(ended) :]))
            continue
        now_us = max(NOON, now_us - length_us) if step == "back" else now_us + length_us
        if step != "look":
            present_us = now_us
        for _ in range(40):
            decision = decide(entry, now_us, present_since_us=present_us)
            if decision is None:
                break
            if entry.decided_until_us <= now_us:
                check_account(entry, decision, now_us)
            entry = applied(entry, decision, now_us, fired)
            open_jobs = [each for each in entry.open if not each.state.is_terminal]
            assert len(open_jobs) <= 1 or entry.spec.overlap == "allow"
        else:
            pytest.fail("there is always something to decide")


@settings(max_examples=60)
@given(SPECS, st.lists(st.integers(0, 10 * MINUTE), max_size=12))
def test_no_slot_fires_twice_while_the_clock_goes_forward(entry, steps):
    now_us, fired, seen = NOON, {}, []
    for length_us in steps:
        now_us += length_us
        while (decision := decide(entry, now_us)) is not None:
            seen += slots(decision)
            entry = applied(entry, decision, now_us, fired)
            ended = tuple(msgspec.structs.replace(each, state=FAILED) for each in entry.open)
            entry = msgspec.structs.replace(entry, open=ended)
    assert seen == sorted(set(seen))


def test_two_supervisors_that_look_at_once_decide_the_same():
    entry = entry_of(
        "*/5 * * * * *", catch_up="all", jitter_us=MINUTE, entry={"open": (open_firing(1, RUNNING),)}
    )
    assert decide(entry, NOON + HOUR) == decide(entry, NOON + HOUR)

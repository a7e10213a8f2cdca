import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.errors import UsageError
from mpdispatch.policy.rate import MAX_BURST, MAX_RATE, MIN_RATE, Rate

S = 1_000_000
RATES = st.builds(Rate, st.floats(0.05, 20_000) | st.integers(1, 1000), st.integers(1, 40))
NOWS = st.integers(0, 10**15)


def exact_bound(rate: Rate, window_us: int) -> Fraction:
    per_s = Fraction(rate.per_s)
    return per_s * window_us / S + max(rate.burst + Fraction(1, 2), per_s / 50)


@given(RATES, NOWS, st.lists(st.tuples(st.integers(-50_000, 400_000), st.integers(1, 60)), max_size=60))
def test_count_in_any_window_is_at_most_rate_times_window_plus_capacity(rate, now_us, steps):
    # Steps back in time too: two supervisors read the clock before either has the store's lock.
    bucket, takes = None, []
    for step_us, wanted in steps:
        now_us = max(0, now_us + step_us)
        count = min(wanted, rate.available(bucket, now_us=now_us))
        if count:
            bucket = rate.take(bucket, count, now_us=now_us)
            takes.append((now_us, count))
    times = {at_us for at_us, _ in takes}
    for start in times:
        for end in times:
            if start <= end:
                count = sum(n for at_us, n in takes if start <= at_us <= end)
                assert count <= exact_bound(rate, end - start)


def test_rounding_to_microseconds_never_adds_up_to_more_than_the_rate():
    rate, start_us, count = Rate(30_000), 5 * S, 20_000  # a job every 33.3 µs
    now_us, bucket = start_us, None
    for _ in range(count):
        now_us = rate.next_due_us(bucket, now_us=now_us)
        bucket = rate.take(bucket, 1, now_us=now_us)
    assert count <= exact_bound(rate, now_us - start_us)


@given(RATES, NOWS, st.data())
def test_next_due_is_the_first_moment_a_job_may_start(rate, now_us, data):
    bucket = None
    for _ in range(3):
        free = rate.available(bucket, now_us=now_us)
        bucket = rate.take(bucket, data.draw(st.integers(0, free)), now_us=now_us) if free else bucket
    due_us = rate.next_due_us(bucket, now_us=now_us)
    assert due_us >= now_us
    assert rate.available(bucket, now_us=due_us) >= 1
    if due_us > now_us:
        assert rate.available(bucket, now_us=due_us - 1) == 0


@given(RATES, NOWS, st.data())
def test_taking_n_leaves_n_less_and_the_full_rest_can_be_taken(rate, now_us, data):
    free = rate.available(None, now_us=now_us)
    assert free == math.floor(max(rate.burst + Fraction(1, 2), Fraction(rate.per_s) / 50)) >= rate.burst
    taken = data.draw(st.integers(0, free))
    bucket = rate.take(None, taken, now_us=now_us)
    # Rounding to whole µs may hide one job, never add one.
    assert free - taken - 1 <= rate.available(bucket, now_us=now_us) <= free - taken


def test_idle_time_saves_up_no_more_than_a_full_bucket():
    rate = Rate(10, burst=3)
    bucket = rate.take(None, 3, now_us=S)
    assert rate.available(bucket, now_us=1000 * S) == 3


def test_more_than_is_free_cannot_be_taken():
    rate = Rate(10)
    bucket = rate.take(None, 1, now_us=S)
    with pytest.raises(UsageError, match=r"^count: 0 may be taken now, not 1$"):
        rate.take(bucket, 1, now_us=S)
    with pytest.raises(UsageError):
        rate.take(None, -1, now_us=S)


def average(rate: Rate, late_us: int, seconds: float) -> float:
    """Jobs per second of a loop that always has work and wakes `late_us` after each token was due."""
    now_us, bucket, count = 10 * S, None, 0
    end_us = now_us + round(seconds * S)
    while now_us < end_us:
        free = rate.available(bucket, now_us=now_us)
        bucket, count = rate.take(bucket, free, now_us=now_us), count + free
        now_us = rate.next_due_us(bucket, now_us=now_us) + late_us
    return count / seconds


@pytest.mark.parametrize("burst", [1, 5])
@pytest.mark.parametrize("per_s", [2, 10, 50, 100, 333.3, 1000, 5000])
def test_the_average_is_held_within_five_percent_by_a_loop_that_wakes_one_ms_late(per_s, burst):
    assert average(Rate(per_s, burst), late_us=1000, seconds=60) == pytest.approx(per_s, rel=0.05)


def test_the_average_is_held_by_a_loop_that_wakes_nine_ms_late():
    assert average(Rate(50), late_us=9000, seconds=60) == pytest.approx(50, rel=0.05)
    assert average(Rate(1000), late_us=9000, seconds=60) == pytest.approx(1000, rel=0.05)


def test_never_two_at_once_with_a_burst_of_one_up_to_fifty_a_second():
    for per_s in (0.001, 1, 10, 50):
        assert Rate(per_s).available(None, now_us=5 * S) == 1


def test_a_bucket_of_an_earlier_boot_does_not_stop_the_queue():
    month_us = 30 * 86_400 * S
    rate = Rate(2)
    bucket = rate.take(None, 1, now_us=month_us)
    assert rate.available(bucket, now_us=5 * S) == 1
    assert rate.next_due_us(bucket, now_us=5 * S) == 5 * S


def test_a_bucket_read_with_a_clock_reading_of_seconds_ago_is_not_taken_for_an_earlier_boot():
    rate = Rate(2)
    bucket = rate.take(None, 1, now_us=100 * S)
    assert rate.available(bucket, now_us=70 * S) == 0


def test_buckets_stay_64_bit_integers_at_the_ends_of_the_range():
    for per_s in (MIN_RATE, MAX_RATE):
        rate = Rate(per_s, MAX_BURST)
        free = rate.available(None, now_us=10**17)
        assert 0 < rate.take(None, free, now_us=10**17) < 2**63
    assert free == MAX_BURST


@pytest.mark.parametrize("per_s", [0, -1, math.nan, math.inf, 1e-9, 1e9, True, "5", None])
def test_a_bad_rate_is_refused_by_name(per_s):
    with pytest.raises(UsageError, match=r"^per_s: "):
        Rate(per_s)


@pytest.mark.parametrize("burst", [0, -1, 1.5, True, "5", None, 10**9])
def test_a_bad_burst_is_refused_by_name(burst):
    with pytest.raises(UsageError, match=r"^burst: "):
        Rate(1, burst)


@given(RATES, NOWS, st.integers(-10 * S, 120 * S), st.integers(1, 30))
def test_the_table_says_what_the_rate_says(rate, now_us, ahead_us, most):
    table, bucket = rate.table(most), max(0, now_us + ahead_us)
    ahead_us = max(0, bucket - now_us)
    if bucket <= now_us or ahead_us > table.foreign:
        ahead_us = 0
    free = rate.available(bucket, now_us=now_us)
    assert sum(ahead_us <= each for each in table.within) == min(free, most)
    for count in range(1, min(free, most) + 1):
        assert now_us + ahead_us + table.costs[count - 1] == rate.take(bucket, count, now_us=now_us)
    assert now_us + max(0, ahead_us - table.within[0]) == rate.next_due_us(bucket, now_us=now_us)

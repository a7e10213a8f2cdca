from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.clock import Instant
from mpdispatch.policy.waits import STEP_US, rebased_us, was_set_back

TIMES = st.integers(0, 10**16)
SPANS = st.integers(0, 10**12)


@given(TIMES, SPANS, SPANS)
def test_a_step_back_costs_a_wait_at_most_its_own_length_again(put_off_us, wait_us, step_us):
    now_us = put_off_us - step_us
    due_us = rebased_us(put_off_us + wait_us, put_off_us, now_us=now_us)
    assert wait_us <= due_us - now_us <= 2 * wait_us


@given(TIMES, SPANS, SPANS)
def test_a_clock_that_was_not_set_back_changes_nothing(put_off_us, wait_us, later_us):
    run_at_us = put_off_us + wait_us
    assert rebased_us(run_at_us, put_off_us, now_us=put_off_us + later_us) == run_at_us


@given(TIMES, SPANS, SPANS, st.lists(SPANS, max_size=5))
def test_to_look_again_changes_nothing(put_off_us, wait_us, step_us, looks):
    now_us = put_off_us - step_us
    due_us = rebased_us(put_off_us + wait_us, put_off_us, now_us=now_us)
    for later_us in looks:
        now_us += later_us
        assert rebased_us(due_us, put_off_us, now_us=now_us) == due_us


@given(TIMES, SPANS, st.integers(-(10**12), 10**12))
def test_only_a_clock_that_fell_behind_was_set_back(boot_us, passed_us, step_us):
    before = Instant(10**15, boot_us)
    now = Instant(10**15 + passed_us + step_us, boot_us + passed_us)
    assert was_set_back(before, now) is (step_us < -STEP_US)

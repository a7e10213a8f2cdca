"""What holds for a supervisor of worker processes holds for one on a cluster: the same tests, with `house` on a cluster.

Left out is what is not promised there: that a worker is found to have closed its channel, and that what a job started
ends with it; and what is of jobs that a worker holds ahead, because there it holds none.
"""

import pytest

from tests.supervisor import test_outcomes as outcomes
from tests.supervisor.house import House
from tests.supervisor.test_cancel import (
    test_a_cancel_asked_while_the_knock_was_lost_is_seen_by_the_next_heartbeat,
    test_a_cancel_during_a_job_that_then_fails_is_not_retried,
    test_a_cancel_that_finds_nothing_of_ours_changes_nothing,
    test_a_result_that_came_before_the_kill_counts,
    test_a_running_job_is_interrupted_and_its_worker_lives_on,
    test_a_running_job_that_will_not_end_is_killed_after_the_grace,
)
from tests.supervisor.test_expiry import (
    test_a_job_that_was_started_in_time_runs_as_any_other,
    test_a_retry_may_be_late,
    test_a_running_job_does_not_expire,
    test_a_worker_looks_once_more_before_it_calls_the_handler,
    test_in_a_paused_queue,
    test_while_all_workers_are_busy,
)
from tests.supervisor.test_outcomes import (
    test_a_failing_job_is_retried_until_it_works,
    test_a_failing_job_is_retried_until_its_budget_is_spent,
    test_a_job_no_handler_is_for_is_parked_and_not_looked_at_again,
    test_a_job_that_cancels_itself_is_cancelled,
    test_a_job_that_kills_its_worker_each_time_ends_as_one_dead_letter,
    test_a_result_is_kept,
    test_a_result_of_20_mb_is_kept,
    test_a_result_past_the_limit_fails_without_retry,
    test_a_retry_asked_for_waits_as_long_as_it_asked,
    test_a_snooze_spends_no_attempt,
    test_jobs_start_in_order_of_priority_then_time,
    test_progress_does_not_wait_for_what_is_claimed_and_has_no_worker_yet,
    test_progress_reaches_the_store_while_the_job_runs,
)

__all__ = [
    "test_a_cancel_asked_while_the_knock_was_lost_is_seen_by_the_next_heartbeat",
    "test_a_cancel_during_a_job_that_then_fails_is_not_retried",
    "test_a_cancel_that_finds_nothing_of_ours_changes_nothing",
    "test_a_failing_job_is_retried_until_it_works",
    "test_a_failing_job_is_retried_until_its_budget_is_spent",
    "test_a_job_no_handler_is_for_is_parked_and_not_looked_at_again",
    "test_a_job_that_cancels_itself_is_cancelled",
    "test_a_job_that_kills_its_worker_each_time_ends_as_one_dead_letter",
    "test_a_job_that_was_started_in_time_runs_as_any_other",
    "test_a_result_is_kept",
    "test_a_result_of_20_mb_is_kept",
    "test_a_result_past_the_limit_fails_without_retry",
    "test_a_result_that_came_before_the_kill_counts",
    "test_a_retry_asked_for_waits_as_long_as_it_asked",
    "test_a_retry_may_be_late",
    "test_a_running_job_does_not_expire",
    "test_a_running_job_is_interrupted_and_its_worker_lives_on",
    "test_a_running_job_that_will_not_end_is_killed_after_the_grace",
    "test_a_snooze_spends_no_attempt",
    "test_a_start_that_fails_and_may_not_be_repeated_is_a_dead_letter",
    "test_a_worker_looks_once_more_before_it_calls_the_handler",
    "test_in_a_paused_queue",
    "test_jobs_start_in_order_of_priority_then_time",
    "test_progress_does_not_wait_for_what_is_claimed_and_has_no_worker_yet",
    "test_progress_reaches_the_store_while_the_job_runs",
    "test_while_all_workers_are_busy",
]


@pytest.mark.parametrize("case", ["plain", "unprintable", "sys.exit", "retry asked", "no json", "killed"])
def test_a_start_that_fails_and_may_not_be_repeated_is_a_dead_letter(house: House, case: str) -> None:
    outcomes.test_a_start_that_fails_and_may_not_be_repeated_is_a_dead_letter(house, case)

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.clock import LATEST_US
from mpdispatch.model import (
    Aborted,
    Cancelled,
    Cause,
    ClaimedJob,
    Completed,
    ErrorInfo,
    Expired,
    JobState,
    LeaseLost,
    Outcome,
    Raised,
    Released,
    RetryAsked,
    Run,
    Snoozed,
    TimedOut,
    WorkerDied,
)
from mpdispatch.policy.backoff import Constant, ExponentialJitter, Linear
from mpdispatch.policy.decide import RetryRules, decide

NOW = 1_750_000_000_000_000
RUN = Run(started_us=NOW - 1000, duration_us=900, worker_pid=7)
ERROR = ErrorInfo(type="OSError", message="no route")
RULES = RetryRules(backoff=Linear(initial=10, max=60))
S = JobState


def job(attempt=1, max_retries=3, starts=9):
    return ClaimedJob(
        id=41,
        starts=starts,
        attempt=attempt,
        name="send",
        queue="default",
        priority=0,
        run_at_us=NOW - 5_000_000,
        max_retries=max_retries,
        timeout_us=None,
        idempotency_key=None,
        payload=b"{}",
    )


RETRIED = {"state": S.RETRYING, "run_at_us": NOW + 10_000_000}
FAILED = {"state": S.FAILED}
GIVEN_BACK = {"state": S.PENDING, "refund": 1}
AT_ONCE = {"state": S.PENDING, "run_at_us": NOW}

# outcome, cause, then what follows with: attempts left (1 of 3+1), none left (4 of 3+1), max_retries=0.
TABLE = [
    (Completed(run=RUN, result=b"1"), Cause.COMPLETED, *[{"state": S.COMPLETED, "error": None}] * 3),
    (Raised(run=RUN, error=ERROR), Cause.ERROR, RETRIED, FAILED, FAILED),
    (Raised(run=RUN, error=ERROR, is_retryable=False), Cause.ERROR, FAILED, FAILED, FAILED),
    (RetryAsked(run=RUN, error=ERROR, delay_us=None), Cause.RETRY, RETRIED, FAILED, FAILED),
    (
        RetryAsked(run=RUN, error=ERROR, delay_us=77),
        Cause.RETRY,
        {"state": S.RETRYING, "run_at_us": NOW + 77},
        FAILED,
        FAILED,
    ),
    (RetryAsked(run=RUN, error=ERROR, delay_us=0), Cause.RETRY, AT_ONCE, FAILED, FAILED),
    (
        Snoozed(run=RUN, delay_us=77),
        Cause.SNOOZE,
        *[{"state": S.SCHEDULED, "run_at_us": NOW + 77, "refund": 1, "error": None}] * 3,
    ),
    (Snoozed(run=RUN, delay_us=0), Cause.SNOOZE, *[{**AT_ONCE, "refund": 1, "error": None}] * 3),
    (Cancelled(run=RUN, error=ERROR), Cause.CANCELLED, *[{"state": S.CANCELLED}] * 3),
    (Cancelled(run=None, error=ERROR), Cause.CANCELLED, *[{"state": S.CANCELLED, "run": None}] * 3),
    (Expired(error=ERROR), Cause.EXPIRED, *[{"state": S.CANCELLED, "run": None, "refund": 1}] * 3),
    (TimedOut(run=RUN, error=ERROR, signal="SIGKILL"), Cause.TIMEOUT, RETRIED, FAILED, FAILED),
    (WorkerDied(run=RUN, error=ERROR, exit_status=3), Cause.WORKER_DIED, RETRIED, FAILED, FAILED),
    (WorkerDied(run=RUN, error=ERROR, signal="SIGSEGV"), Cause.WORKER_DIED, RETRIED, FAILED, FAILED),
    (LeaseLost(run=RUN, error=ERROR), Cause.LEASE_LOST, RETRIED, FAILED, FAILED),
    (Aborted(run=RUN, error=ERROR), Cause.ABORTED, GIVEN_BACK, GIVEN_BACK, FAILED),
    (Released(), Cause.RELEASED, *[{**GIVEN_BACK, "error": None, "run": None}] * 3),
]
BUDGETS = [(1, 3), (4, 3), (1, 0)]
CASES = [
    pytest.param(outcome, cause, expected, *budget, id=f"{cause}-{number}-attempt{budget[0]}of{budget[1]}+1")
    for number, (outcome, cause, *columns) in enumerate(TABLE)
    for expected, budget in zip(columns, BUDGETS, strict=True)
]


@pytest.mark.parametrize(("outcome", "cause", "expected", "attempt", "max_retries"), CASES)
def test_every_outcome_leads_where_the_table_says(outcome, cause, expected, attempt, max_retries):
    after = decide(job(attempt, max_retries), outcome, RULES, now_us=NOW, jitter=0.5)
    assert after.state is expected["state"]
    assert after.attempt == attempt - expected.get("refund", 0)
    assert after.run_at_us == expected.get("run_at_us")
    assert after.error == expected.get("error", ERROR)
    assert after.run == expected.get("run", RUN)
    assert (after.job_id, after.starts, after.claim_attempt) == (41, 9, attempt)
    assert (after.cause, after.at_us) == (cause, NOW)
    assert after.result == getattr(outcome, "result", None)
    assert after.exit_status == getattr(outcome, "exit_status", None)
    assert after.signal == getattr(outcome, "signal", None)


def test_the_table_names_every_outcome():
    assert {type(row[0]) for row in TABLE} == set(Outcome.__args__)


@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_backoff_is_asked_with_the_number_of_the_retry(attempt):
    after = decide(job(attempt), Raised(run=RUN, error=ERROR), RULES, now_us=NOW, jitter=0.5)
    assert after.run_at_us == NOW + attempt * 10_000_000


def test_jitter_is_the_only_randomness():
    rules = RetryRules(backoff=ExponentialJitter(base=8, max=8))
    after = decide(job(), Raised(run=RUN, error=ERROR), rules, now_us=NOW, jitter=0.25)
    assert after.run_at_us == NOW + 2_000_000


def test_a_backoff_of_zero_makes_the_job_due_at_once():
    rules = RetryRules(backoff=Constant(0))
    after = decide(job(), Raised(run=RUN, error=ERROR), rules, now_us=NOW, jitter=0.5)
    assert (after.state, after.run_at_us) == (S.PENDING, NOW)


@pytest.mark.parametrize(
    "outcome", [Snoozed(run=RUN, delay_us=2**62), RetryAsked(run=RUN, error=ERROR, delay_us=2**62)]
)
def test_an_endless_delay_ends_with_the_last_date_there_is(outcome):
    assert decide(job(), outcome, RULES, now_us=NOW, jitter=0.5).run_at_us == LATEST_US


# ---------------------------------------------------------------- properties

DELAYS = st.integers(0, 2**62)
OUTCOMES = st.one_of(
    st.just(Completed(run=RUN, result=b"null")),
    st.builds(Raised, run=st.just(RUN), error=st.just(ERROR), is_retryable=st.booleans()),
    st.builds(RetryAsked, run=st.just(RUN), error=st.just(ERROR), delay_us=st.none() | DELAYS),
    st.builds(Snoozed, run=st.just(RUN), delay_us=DELAYS),
    st.builds(Cancelled, run=st.sampled_from([RUN, None]), error=st.just(ERROR)),
    st.just(Expired(error=ERROR)),
    st.builds(TimedOut, run=st.just(RUN), error=st.just(ERROR)),
    st.builds(WorkerDied, run=st.just(RUN), error=st.just(ERROR), exit_status=st.none() | st.integers(0, 255)),
    st.just(LeaseLost(run=RUN, error=ERROR)),
    st.just(Aborted(run=RUN, error=ERROR)),
    st.just(Released()),
)
UNIT = st.floats(0, 1, exclude_max=True)


@given(OUTCOMES, st.integers(1, 20), st.integers(0, 10), UNIT, st.integers(0, LATEST_US))
def test_one_step_keeps_its_promises(outcome, attempt, max_retries, jitter, now_us):
    before = job(attempt, max_retries)
    after = decide(before, outcome, RetryRules(), now_us=now_us, jitter=jitter)
    assert after.state is not S.RUNNING
    assert after.attempt in (attempt, attempt - 1)
    assert after.attempt >= 0
    if after.state.is_terminal:
        assert after.run_at_us is None
        assert after.attempt == attempt - isinstance(outcome, Expired)  # it did not begin
    if after.state in (S.RETRYING, S.SCHEDULED):
        assert after.run_at_us is not None
    if after.run_at_us is not None:
        assert now_us <= after.run_at_us <= LATEST_US
    if after.state is S.RETRYING:
        assert attempt <= max_retries
    assert after.run == getattr(outcome, "run", None)
    assert (after.starts, after.job_id, after.claim_attempt) == (before.starts, before.id, attempt)
    assert decide(before, outcome, RetryRules(), now_us=now_us, jitter=jitter) == after


@given(st.integers(0, 4), st.lists(OUTCOMES, max_size=40))
def test_no_job_is_spent_more_than_max_retries_plus_one_times(max_retries, outcomes):
    attempt, spent, starts = 0, 0, 0
    for outcome in outcomes:
        attempt, starts = attempt + 1, starts + 1
        after = decide(job(attempt, max_retries, starts), outcome, RULES, now_us=NOW, jitter=0.5)
        spent += after.attempt == attempt
        attempt = after.attempt
        assert attempt == spent <= max_retries + 1
        if after.state.is_terminal:
            break
        assert attempt <= max_retries


@given(st.lists(OUTCOMES, max_size=40))
def test_without_retries_only_an_unstarted_or_snoozed_job_is_claimed_again(outcomes):
    for starts, outcome in enumerate(outcomes, start=1):
        after = decide(job(1, 0, starts), outcome, RULES, now_us=NOW, jitter=0.5)
        assert after.state.is_terminal == (not isinstance(outcome, Released | Snoozed))
        if after.state.is_terminal:
            break


@pytest.mark.parametrize(
    "outcome", [Raised(run=RUN, error=ERROR), TimedOut(run=RUN, error=ERROR), LeaseLost(run=RUN, error=ERROR)]
)
def test_a_job_that_always_fails_ends_as_one_dead_letter_after_its_budget(outcome):
    for attempt in itertools.count(1):
        after = decide(job(attempt, 3), outcome, RULES, now_us=NOW, jitter=0.5)
        if after.state is S.FAILED:
            break
    assert attempt == 4


def test_rules_are_frozen():
    with pytest.raises(AttributeError):
        RULES.backoff = Constant(1)
    assert msgspec.structs.asdict(RULES) == {"backoff": RULES.backoff}

import math
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch import backoff
from mpdispatch.errors import UsageError
from mpdispatch.policy.backoff import BackoffSpec, Constant, Exponential, ExponentialJitter, Linear

SECONDS = st.floats(0, 1e6)
ATTEMPTS = st.integers(1, 10**400) | st.integers(1, 100)
UNIT = st.floats(0, 1, exclude_max=True)


@st.composite
def backoffs(draw):
    low, high = sorted([draw(SECONDS), draw(SECONDS)])
    return draw(
        st.sampled_from(
            [
                Constant(low),
                Linear(low, high),
                Exponential(low, high, draw(st.floats(1, 1e300))),
                ExponentialJitter(low, high),
            ]
        )
    )


@given(backoffs(), ATTEMPTS, UNIT)
def test_delay_is_between_zero_and_max_for_any_attempt(rule, attempt, u):
    delay = rule.delay_s(attempt, u)
    assert isinstance(delay, float)
    assert 0 <= delay <= (rule.interval if isinstance(rule, Constant) else rule.max)


@given(backoffs(), ATTEMPTS, UNIT)
def test_delay_never_shrinks_from_one_retry_to_the_next(rule, attempt, u):
    assert rule.delay_s(attempt, u) <= rule.delay_s(attempt + 1, u)


@given(backoffs())
def test_backoff_crosses_a_process_boundary_as_json(rule):
    assert msgspec.json.decode(msgspec.json.encode(rule), type=BackoffSpec) == rule


@given(backoffs(), ATTEMPTS)
def test_only_jitter_depends_on_u(rule, attempt):
    low, high = rule.delay_s(attempt, 0.0), rule.delay_s(attempt, 0.999)
    if isinstance(rule, ExponentialJitter):
        assert low == 0
        assert high == pytest.approx(0.999 * Exponential(rule.base, rule.max).delay_s(attempt, 0.0))
    else:
        assert low == high


@pytest.mark.parametrize(
    ("rule", "delays"),
    [
        (Constant(7), [7, 7, 7, 7]),
        (Linear(initial=10, max=25), [10, 20, 25, 25]),
        (Linear(initial=0, max=25), [0, 0, 0, 0]),
        (Exponential(base=5, max=7200), [5, 10, 20, 40]),
        (Exponential(base=1, max=50, factor=3), [1, 3, 9, 27]),
        (Exponential(base=4, max=50, factor=1), [4, 4, 4, 4]),
        (Exponential(base=0, max=50), [0, 0, 0, 0]),
        (ExponentialJitter(base=2, max=10), [1, 2, 4, 5]),
    ],
)
def test_worked_examples(rule, delays):
    assert [rule.delay_s(attempt, 0.5) for attempt in (1, 2, 3, 4)] == delays


@pytest.mark.parametrize(
    ("rule", "limit"),
    [
        (Constant(7), 7),
        (Linear(1e-9, 60), 60),
        (Linear(0, 60), 0),
        (Exponential(1, 60), 60),
        (Exponential(0, 60), 0),
        (Exponential(2, 60, factor=1), 2),
        (Exponential(1, 60, factor=1e308), 60),
    ],
)
def test_huge_attempts_reach_the_limit_without_overflow(rule, limit):
    assert rule.delay_s(10**400, 0.0) == limit


def test_default_is_full_jitter_from_one_second_to_one_minute():
    assert backoff.DEFAULT == ExponentialJitter(base=1, max=60) == ExponentialJitter()


def test_timedeltas_are_the_same_as_seconds():
    assert Constant(timedelta(milliseconds=500)) == Constant(0.5)
    assert Linear(timedelta(seconds=1), timedelta(minutes=1)) == Linear(1, 60)
    assert Exponential(base=timedelta(seconds=5), max=timedelta(hours=2)) == Exponential(base=5, max=7200)
    assert isinstance(Constant(5).interval, float)


def test_backoffs_are_frozen_and_of_one_kind_each():
    with pytest.raises(AttributeError):
        Constant(1).interval = 2
    assert Linear(1, 2) != ExponentialJitter(1, 2)
    assert len({Constant(1), Constant(1.0), Constant(2)}) == 2


BAD = [-1, math.nan, math.inf, True, "5", None, timedelta(seconds=-1), 10**400, 1e12]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: repr(bad)[:12])
@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda bad: Constant(bad), "interval"),
        (lambda bad: Linear(bad, 60), "initial"),
        (lambda bad: Linear(1, bad), "max"),
        (lambda bad: Exponential(bad, 60), "base"),
        (lambda bad: Exponential(1, bad), "max"),
        (lambda bad: ExponentialJitter(bad), "base"),
        (lambda bad: ExponentialJitter(1, bad), "max"),
    ],
)
def test_a_bad_interval_is_refused_by_name(make, argument, bad):
    with pytest.raises(UsageError, match=f"^{argument}: "):
        make(bad)


@pytest.mark.parametrize(
    "factor", [0.5, 0, -2, math.nan, math.inf, True, "2", 10**400, pytest.param(10**5000, id="10**5000")]
)
def test_a_bad_factor_is_refused_by_name(factor):
    with pytest.raises(UsageError, match=r"^factor: "):
        Exponential(1, 60, factor)


@pytest.mark.parametrize("kind", [Linear, Exponential, ExponentialJitter])
def test_max_below_the_first_delay_is_refused(kind):
    with pytest.raises(UsageError, match=r"^max: must be at least (initial|base) \(5 s\), not 4 s$"):
        kind(5, 4)


def test_a_bad_backoff_is_refused_when_it_arrives_as_json_too():
    with pytest.raises(UsageError, match=r"^interval: "):
        msgspec.json.decode(b'{"kind":"constant","interval":-1}', type=BackoffSpec)


@pytest.mark.parametrize(
    ("attempt", "u", "argument"), [(0, 0.5, "attempt"), (1, 1.0, "u"), (1, -0.1, "u"), (1, math.nan, "u")]
)
def test_attempt_and_u_out_of_range_are_refused_by_name(attempt, u, argument):
    with pytest.raises(UsageError, match=f"^{argument}: "):
        Constant(1).delay_s(attempt, u)


def test_the_public_name_offers_what_the_policy_has():
    from mpdispatch.policy import backoff as policy

    assert {each.__name__ for each in policy.Backoff.__subclasses__()} <= set(backoff.__all__)
    assert all(getattr(backoff, name) is getattr(policy, name) for name in backoff.__all__)

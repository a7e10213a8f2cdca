import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.clock import Instant
from mpdispatch.config import QueueConfig
from mpdispatch.errors import UsageError
from mpdispatch.model import ClaimFacts, Planner
from mpdispatch.policy.admission import Admission
from mpdispatch.policy.rate import Rate

NOW = Instant(wall_us=1_750_000_000_000_000, boot_us=1_000_000_000)


def facts(running=None, buckets=None, paused=()):
    return ClaimFacts(now=NOW, running=running or {}, buckets=buckets or {}, paused=frozenset(paused))


def planner_of(planner: Planner) -> Planner:
    return planner


def test_admission_is_a_planner_that_names_what_must_be_counted_and_read():
    planner = planner_of(
        Admission(
            queues=("a", "b", "c"),
            configs=(QueueConfig("a", 2), QueueConfig("b", rate_limit=5), QueueConfig("elsewhere", 1, 1)),
        )
    )
    assert (planner.limited, planner.rated, planner.queues) == ({"a"}, {"b"}, ("a", "b", "c"))


def test_free_queues_may_fill_all_slots():
    plan = Admission(queues=("a", "b")).plan(4, facts())
    assert (plan.total, plan.per_queue, plan.next_token_us) == (4, {"a": 4, "b": 4}, None)


def test_a_concurrency_limit_leaves_what_is_not_running_yet():
    admission = Admission(queues=("a", "b"), configs=(QueueConfig("a", max_concurrency=3),))
    assert admission.plan(10, facts(running={"a": 1})).per_queue == {"a": 2, "b": 10}
    assert admission.plan(10, facts(running={"a": 3})).per_queue == {"b": 10}
    assert admission.plan(10, facts(running={"a": 5})).per_queue == {"b": 10}


def test_total_is_no_more_than_the_queues_give_together():
    admission = Admission(queues=("a",), configs=(QueueConfig("a", max_concurrency=3),))
    assert admission.plan(10, facts()).total == 3


@pytest.mark.parametrize("slots", [0, -2])
def test_without_slots_nothing_is_planned(slots):
    plan = Admission(queues=("a",)).plan(slots, facts())
    assert (plan.total, plan.per_queue) == (0, {})


def test_paused_queues_are_absent_and_wait_for_no_token():
    admission = Admission(queues=("a", "b"), configs=(QueueConfig("a", rate_limit=1),))
    empty = Rate(1).take(None, 1, now_us=NOW.boot_us)
    plan = admission.plan(4, facts(buckets={"a": empty}, paused=["a"]))
    assert (plan.per_queue, plan.next_token_us) == ({"b": 4}, None)


def test_an_empty_bucket_closes_its_queue_and_the_plan_says_until_when():
    admission = Admission(
        queues=("slow", "quick"), configs=(QueueConfig("slow", None, 1), QueueConfig("quick", None, 10))
    )
    buckets = {
        name: Rate(rate).take(None, 1, now_us=NOW.boot_us) for name, rate in (("slow", 1), ("quick", 10))
    }
    plan = admission.plan(4, facts(buckets=buckets))
    assert plan.per_queue == {}
    assert plan.next_token_us == Rate(10).next_due_us(buckets["quick"], now_us=NOW.boot_us) > NOW.boot_us


def test_a_charge_is_what_the_next_plan_sees():
    admission = Admission(queues=("a",), configs=(QueueConfig("a", rate_limit=1, rate_burst=3),))
    buckets = admission.charge(facts(), {"a": 2})
    assert admission.plan(9, facts(buckets=buckets)).per_queue == {"a": 1}


def test_a_store_that_takes_more_than_planned_is_stopped():
    admission = Admission(queues=("a",), configs=(QueueConfig("a", rate_limit=1),))
    with pytest.raises(UsageError):
        admission.charge(facts(), {"a": 2})


def test_a_refusal_names_the_job_the_app_and_what_is_registered():
    admission = Admission(queues=("a",), known=frozenset({"resize", "report"}), app="shop:engine")
    assert admission.refusal("resize") is None
    assert (
        admission.refusal("send_mail")
        == "no handler 'send_mail' in app 'shop:engine'; registered: report, resize"
    )
    assert admission.known_names() == {"resize", "report"}


def test_a_refusal_without_app_or_handlers_still_reads_well():
    assert (
        Admission(queues=(), known=frozenset()).refusal("x")
        == "no handler 'x' in this engine; registered: none"
    )


def test_a_refusal_stays_short_with_a_thousand_handlers():
    text = Admission(queues=(), known=frozenset(f"job{n:04}" for n in range(1000))).refusal("x")
    assert text.endswith("job0019 and 980 more")


def test_without_known_names_nothing_is_refused():
    admission = Admission(queues=("a",))
    assert admission.refusal("anything") is None
    assert admission.known_names() is None


def test_admission_is_frozen_and_comparable():
    one, other = (Admission(queues=("a",), configs=(QueueConfig("a", 1),)) for _ in range(2))
    assert one == other
    with pytest.raises(AttributeError):
        one.queues = ("b",)


# ---------------------------------------------------------------- properties

NAMES = ("a", "b", "c")
CONFIGS = st.tuples(
    *(
        st.builds(
            QueueConfig,
            st.just(name),
            st.none() | st.integers(1, 8),
            st.none() | st.floats(0.1, 2000),
            st.integers(1, 5),
        )
        for name in NAMES
    )
)


@given(
    CONFIGS,
    st.sets(st.sampled_from(NAMES)),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 300_000), st.integers(0, 2**32)), max_size=25),
)
def test_limits_are_never_exceeded_and_nothing_untaken_is_charged(configs, paused, steps):
    admission = Admission(queues=NAMES, configs=configs)
    by_name = {config.name: config for config in configs}
    running, buckets = dict.fromkeys(NAMES, 0), {}
    boot_us = NOW.boot_us
    for slots, step_us, seed in steps:
        boot_us += step_us
        seen = ClaimFacts(
            now=Instant(NOW.wall_us, boot_us),
            running=dict(running),
            buckets=dict(buckets),
            paused=frozenset(paused),
        )
        plan = admission.plan(slots, seen)
        assert 0 <= plan.total <= slots
        assert not paused & plan.per_queue.keys()
        assert all(0 < free <= slots for free in plan.per_queue.values())
        assert plan.next_token_us is None or plan.next_token_us > boot_us
        taken, left = {}, plan.total
        for number, (queue, free) in enumerate(plan.per_queue.items()):
            taken[queue] = min(left, free, (seed >> 8 * number) % 8)
            left -= taken[queue]
        charged = admission.charge(seen, taken)
        assert charged.keys() == {
            queue for queue, count in taken.items() if count and by_name[queue].rate_limit
        }
        buckets.update(charged)
        for queue, count in taken.items():
            running[queue] += count
            if by_name[queue].max_concurrency is not None:
                assert running[queue] <= by_name[queue].max_concurrency
        if seed % 3 == 0:
            running = dict.fromkeys(NAMES, 0)


@given(
    CONFIGS,
    st.integers(0, 12),
    st.none() | st.integers(0, 12),
    st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2 * NOW.boot_us)),
)
def test_jobs_of_rated_queues_are_planned_for_no_more_workers_than_are_ready(configs, slots, ready, buckets):
    admission = Admission(queues=NAMES, configs=configs)
    seen = facts(running=dict.fromkeys(NAMES, 0), buckets=buckets)
    plan = admission.plan(
        slots, ClaimFacts(now=NOW, running=seen.running, buckets=buckets, paused=frozenset(), ready=ready)
    )
    if ready is None or not admission.rated:
        assert plan.ready is None
    else:
        assert plan.ready == min(ready, slots)
    # All else is as it was: for how many there are tokens, and when the next comes, does not hang on workers.
    free = admission.plan(slots, seen)
    assert (plan.total, plan.per_queue, plan.next_token_us) == (free.total, free.per_queue, free.next_token_us)

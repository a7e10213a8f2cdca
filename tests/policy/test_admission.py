import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.clock import Instant
from mpdispatch.errors import UsageError
from mpdispatch.model import COMMAND_JOB, ClaimFacts, ClaimRequest, QueueLimit
from mpdispatch.policy.admission import charge, plan, refusal
from mpdispatch.policy.rate import Rate

NOW = Instant(wall_us=1_750_000_000_000_000, boot_us=1_000_000_000)


def facts(running=None, buckets=None, paused=()):
    return ClaimFacts(now=NOW, running=running or {}, buckets=buckets or {}, paused=frozenset(paused))


def request(*queues, slots=10, **options):
    return ClaimRequest(queues=queues, slots=slots, **options)


def test_a_request_names_what_must_be_counted_and_read_of_its_own_queues():
    limits = {"a": QueueLimit(2), "b": QueueLimit(rate=5), "elsewhere": QueueLimit(1, 1)}
    asked = request("a", "b", "c", limits=limits)
    assert (asked.limited, asked.rated) == (["a"], {"b"})
    assert (request("c").limited, request("c").rated) == ([], frozenset())


def test_a_request_is_a_value_that_crosses_a_wire():
    asked = request("a", slots=3, ready=1, limits={"a": QueueLimit(2, 0.5)}, names=frozenset({"x"}), app="s:e")
    assert msgspec.json.decode(msgspec.json.encode(asked), type=type(asked)) == asked


def test_free_queues_may_fill_all_slots():
    planned = plan(request("a", "b", slots=4), facts())
    assert (planned.total, planned.per_queue, planned.next_token_us) == (4, {"a": 4, "b": 4}, None)


def test_a_concurrency_limit_leaves_what_is_not_running_yet():
    asked = request("a", "b", limits={"a": QueueLimit(3)})
    assert plan(asked, facts(running={"a": 1})).per_queue == {"a": 2, "b": 10}
    assert plan(asked, facts(running={"a": 3})).per_queue == {"b": 10}
    assert plan(asked, facts(running={"a": 5})).per_queue == {"b": 10}


def test_total_is_no_more_than_the_queues_give_together():
    assert plan(request("a", limits={"a": QueueLimit(3)}), facts()).total == 3


@pytest.mark.parametrize("slots", [0, -2])
def test_without_slots_nothing_is_planned(slots):
    planned = plan(request("a", slots=slots), facts())
    assert (planned.total, planned.per_queue) == (0, {})


def test_paused_queues_are_absent_and_wait_for_no_token():
    asked = request("a", "b", slots=4, limits={"a": QueueLimit(rate=1)})
    empty = Rate(1).take(None, 1, now_us=NOW.boot_us)
    planned = plan(asked, facts(buckets={"a": empty}, paused=["a"]))
    assert (planned.per_queue, planned.next_token_us) == ({"b": 4}, None)


def test_an_empty_bucket_closes_its_queue_and_the_plan_says_until_when():
    asked = request("slow", "quick", limits={"slow": QueueLimit(rate=1), "quick": QueueLimit(rate=10)})
    buckets = {
        name: Rate(rate).take(None, 1, now_us=NOW.boot_us) for name, rate in (("slow", 1), ("quick", 10))
    }
    planned = plan(asked, facts(buckets=buckets))
    assert planned.per_queue == {}
    assert planned.next_token_us == Rate(10).next_due_us(buckets["quick"], now_us=NOW.boot_us) > NOW.boot_us


def test_a_charge_is_what_the_next_plan_sees():
    asked = request("a", limits={"a": QueueLimit(rate=1, burst=3)})
    buckets = charge(asked, facts(), {"a": 2})
    assert plan(asked, facts(buckets=buckets)).per_queue == {"a": 1}


def test_a_store_that_takes_more_than_planned_is_stopped():
    with pytest.raises(UsageError):
        charge(request("a", limits={"a": QueueLimit(rate=1)}), facts(), {"a": 2})


def test_a_refusal_names_the_job_the_app_and_what_is_registered():
    asked = request("a", names=frozenset({"resize", "report", COMMAND_JOB}), app="shop:engine")
    assert refusal(asked, "resize") is None
    assert (
        refusal(asked, "send_mail") == "no handler 'send_mail' in app 'shop:engine'; registered: report, resize"
    )


def test_a_refusal_without_app_or_handlers_still_reads_well():
    assert refusal(request(names=frozenset()), "x") == "no handler 'x' in this engine; registered: none"


def test_a_refusal_stays_short_with_a_thousand_handlers():
    text = refusal(request(names=frozenset(f"job{n:04}" for n in range(1000))), "x")
    assert text.endswith("job0019 and 980 more")


def test_without_names_nothing_is_refused():
    assert refusal(request("a"), "anything") is None


# ---------------------------------------------------------------- properties

NAMES = ("a", "b", "c")
LIMITS = st.fixed_dictionaries(
    dict.fromkeys(
        NAMES,
        st.builds(
            QueueLimit,
            st.none() | st.integers(1, 8),
            st.none() | st.floats(0.1, 2000),
            st.integers(1, 5),
        ),
    )
)


@given(
    LIMITS,
    st.sets(st.sampled_from(NAMES)),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 300_000), st.integers(0, 2**32)), max_size=25),
)
def test_limits_are_never_exceeded_and_nothing_untaken_is_charged(limits, paused, steps):
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
        asked = request(*NAMES, slots=slots, limits=limits)
        planned = plan(asked, seen)
        assert 0 <= planned.total <= slots
        assert not paused & planned.per_queue.keys()
        assert all(0 < free <= slots for free in planned.per_queue.values())
        assert planned.next_token_us is None or planned.next_token_us > boot_us
        taken, left = {}, planned.total
        for number, (queue, free) in enumerate(planned.per_queue.items()):
            taken[queue] = min(left, free, (seed >> 8 * number) % 8)
            left -= taken[queue]
        charged = charge(asked, seen, taken)
        assert charged.keys() == {queue for queue, count in taken.items() if count and limits[queue].rate}
        buckets.update(charged)
        for queue, count in taken.items():
            running[queue] += count
            if limits[queue].max_concurrency is not None:
                assert running[queue] <= limits[queue].max_concurrency
        if seed % 3 == 0:
            running = dict.fromkeys(NAMES, 0)


@given(
    LIMITS,
    st.integers(0, 12),
    st.none() | st.integers(0, 12),
    st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2 * NOW.boot_us)),
)
def test_jobs_of_rated_queues_are_planned_for_no_more_workers_than_are_ready(limits, slots, ready, buckets):
    asked = request(*NAMES, slots=slots, ready=ready, limits=limits)
    seen = facts(running=dict.fromkeys(NAMES, 0), buckets=buckets)
    planned = plan(asked, seen)
    if ready is None or not asked.rated:
        assert planned.ready is None
    else:
        assert planned.ready == min(ready, slots)
    # All else is as it was: for how many there are tokens, and when the next comes, does not hang on workers.
    free = plan(msgspec.structs.replace(asked, ready=None), seen)
    assert msgspec.structs.replace(planned, ready=None) == free

"""The server holds limits and rates as `policy.admission` plans: its twin in Lua is held against it."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpdispatch.clock import SECOND_US
from mpdispatch.model import AlikeJobs, ClaimFacts, ClaimRequest, QueueLimit
from mpdispatch.policy import admission
from mpdispatch.store.redis import RedisStore
from tests.clock import FakeClock
from tests.servers.fixtures import Place
from tests.store.conftest import completed, registration

from .conftest import new_job

JOBS = 60
limits = st.builds(
    QueueLimit,
    max_concurrency=st.one_of(st.none(), st.integers(0, 9)),
    rate=st.one_of(st.none(), st.floats(1e-3, 1e6), st.sampled_from([0.1, 1 / 3, 2.0, 50.0])),
    burst=st.integers(1, 20),
)
turns = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 999, 20_000, 100_000, SECOND_US, 10 * SECOND_US, 90 * SECOND_US]),
        st.integers(0, 9),  # slots
        st.one_of(st.none(), st.integers(0, 9)),  # ready
        st.integers(0, 5),  # of the jobs it holds so many end
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(limit=limits, other=limits, turns=turns)
def test_a_claim_takes_what_admission_plans(
    new_place: Callable[[str], Place],
    limit: QueueLimit,
    other: QueueLimit,
    turns: list[tuple[int, int, int | None, int]],
) -> None:
    clock = FakeClock()
    store = RedisStore(new_place("valkey").location, clock=clock)
    store.migrate()
    for queue in ("a", "b"):
        store.enqueue_many(AlikeJobs(new_job(queue=queue), [b"{}"] * JOBS))
    supervisor = store.supervisor_store()
    owner = supervisor.register(registration(), 10**12)
    held, buckets = [], dict[str, int]()
    for wait_us, slots, ready, count in turns:
        clock.advance(wait_us / SECOND_US)
        ended, held = held[:count], held[count:]
        supervisor.commit(owner, [completed(job, clock.now()) for job in ended])
        request = ClaimRequest(queues=("a", "b"), slots=slots, ready=ready, limits={"a": limit, "b": other})
        running = {queue: sum(job.queue == queue for job in held) for queue in ("a", "b")}
        facts = ClaimFacts(now=clock.now(), running=running, buckets=buckets, paused=frozenset())
        plan = admission.plan(request, facts)
        result = supervisor.commit(owner, [], claim=request)
        taken = {queue: sum(job.queue == queue for job in result.claimed) for queue in ("a", "b")}
        rated = [each for each in request.rated if taken[each]]
        assert all(taken[queue] <= plan.per_queue.get(queue, 0) for queue in taken)
        most = plan.total if plan.ready is None else min(plan.total, plan.ready)
        if plan.ready is None or request.rated == {"a", "b"}:
            assert sum(taken.values()) == most
        buckets |= admission.charge(request, facts, taken)
        assert {queue: store.queue_state(queue).bucket for queue in rated} == {
            queue: buckets[queue] for queue in rated
        }
        held += result.claimed
    store.close_all()

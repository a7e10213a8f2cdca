"""A call whose reply was lost is carried out once, and its caller gets the reply all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mpdispatch.clock import SystemClock
from mpdispatch.errors import StoreUnreachable
from mpdispatch.model import ClaimRequest, JobState
from mpdispatch.store.redis import RedisStore
from mpdispatch.store.supervisor_contract import SupervisorStore
from tests.servers.fixtures import Place
from tests.store.conftest import completed, registration

from .conftest import new_job
from .proxy import Proxy

TTL_US = 30_000_000
CLAIM = ClaimRequest(queues=("default",), slots=2)


@pytest.fixture
def proxy(place: Place, tmp_path: Path) -> Iterator[Proxy]:
    path = place.dsn.removeprefix("unix://").partition("?")[0]
    if not path.startswith("/"):
        pytest.skip("this server has no socket to stand before")
    made = Proxy(tmp_path / "proxy", Path(path))
    yield made
    made.close()


@pytest.fixture
def far(proxy: Proxy, place: Place, store: RedisStore) -> Iterator[RedisStore]:
    """The same store by way of the proxy."""
    made = RedisStore(f"redis+unix://{proxy.path}?db=0&prefix={place.name}")
    made.check()
    yield made
    made.close_all()


@pytest.fixture
def supervisor(far: RedisStore) -> SupervisorStore:
    return far.supervisor_store()


def test_an_enqueue_whose_reply_is_lost_makes_one_job(far: RedisStore, proxy: Proxy, store: RedisStore) -> None:
    proxy.lose(b"enqueue", 2)
    job = far.enqueue(new_job())
    assert proxy.lost == 2
    assert store.counts()[JobState.PENDING] == 1
    assert store.get(job.id) == job


def test_many_whose_reply_is_lost_are_enqueued_once(far: RedisStore, proxy: Proxy, store: RedisStore) -> None:
    proxy.lose(b"enqueue_many")
    made = far.enqueue_many([new_job(), new_job(name="other")])
    assert (proxy.lost, [*made.ids]) == (1, [1, 2])
    assert store.counts()[JobState.PENDING] == 2
    assert store.batches.get(made.batch_id or 0).total == 2


def test_threads_do_not_take_each_others_replies(far: RedisStore, store: RedisStore) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as threads:
        jobs = list(threads.map(lambda n: far.enqueue(new_job(name=f"n{n}")), range(40)))
    assert sorted(job.id for job in jobs) == [*range(1, 41)]
    assert {job.name for job in jobs} == {f"n{n}" for n in range(40)}
    assert store.counts()[JobState.PENDING] == 40


def test_a_commit_whose_reply_is_lost_is_repeated_as_it_is(
    supervisor: SupervisorStore, proxy: Proxy, store: RedisStore
) -> None:
    owner = supervisor.register(registration(), TTL_US)
    ids = [store.enqueue(new_job()).id for _ in range(2)]
    proxy.lose(b"commit")
    with pytest.raises(StoreUnreachable, match="nobody knows whether it has carried out the call"):
        supervisor.commit(owner, [], claim=CLAIM)
    result = supervisor.commit(owner, [], claim=CLAIM)
    assert [job.id for job in result.claimed] == ids
    assert [job.starts for job in result.claimed] == [1, 1]


def test_outcomes_of_a_lost_commit_are_recorded_once(
    supervisor: SupervisorStore, proxy: Proxy, store: RedisStore
) -> None:
    owner = supervisor.register(registration(), TTL_US)
    ids = [store.enqueue(new_job()).id for _ in range(4)]
    first, second = supervisor.commit(owner, [], claim=CLAIM).claimed
    proxy.lose(b"commit")
    now = SystemClock().now()
    with pytest.raises(StoreUnreachable):
        supervisor.commit(owner, [completed(first, now)], claim=CLAIM)
    # By the time it tries again it has more to say, and the first commit has claimed two jobs more.
    result = supervisor.commit(owner, [completed(first, now), completed(second, now)], claim=CLAIM)
    assert result.rejected == []
    assert [job.id for job in result.claimed] == ids[2:]
    assert result.has_more
    assert [store.state_of(each) for each in ids[:2]] == [JobState.COMPLETED] * 2
    assert [len(store.attempts(each)) for each in ids[:2]] == [1, 1]


def test_a_heartbeat_after_a_lost_commit_does_not_give_back_what_it_claimed(
    supervisor: SupervisorStore, proxy: Proxy, store: RedisStore
) -> None:
    owner = supervisor.register(registration(), TTL_US)
    ids = [store.enqueue(new_job()).id for _ in range(2)]
    proxy.lose(b"commit")
    with pytest.raises(StoreUnreachable):
        supervisor.commit(owner, [], claim=CLAIM)
    # Whoever reconciles gives back what it owns and does not hold.
    assert supervisor.renew(owner, TTL_US).owned == ()
    assert [job.id for job in supervisor.commit(owner, []).claimed] == ids
    assert supervisor.renew(owner, TTL_US).owned == tuple((each, 1) for each in ids)


def test_a_commit_that_never_arrived_is_carried_out_by_the_next(
    supervisor: SupervisorStore, proxy: Proxy, store: RedisStore
) -> None:
    owner = supervisor.register(registration(), TTL_US)
    job_id = store.enqueue(new_job()).id
    [job] = supervisor.commit(owner, [], claim=CLAIM).claimed
    server, proxy.server = proxy.server, Path("/nowhere")
    proxy.end_connections()
    with pytest.raises(StoreUnreachable):
        supervisor.commit(owner, [completed(job, SystemClock().now())])
    proxy.server = server
    supervisor.commit(owner, [])
    assert store.state_of(job_id) is JobState.COMPLETED

"""Through a proxy that drops requests and replies, the store's calls do what they do, once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mpdispatch.clock import Instant
from mpdispatch.errors import StoreUnreachable
from mpdispatch.model import ClaimRequest, JobState, NewBatch, NewJob
from mpdispatch.store.filters import JobFilter
from mpdispatch.store.postgres import PostgresStore
from mpdispatch.store.postgres.options import Place
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.store.values import CommitResult
from tests.store.conftest import completed, registration
from tests.store.postgres.proxy import Proxy

CLAIM = ClaimRequest(queues=("default",), slots=10)
HOUR_US = 3_600_000_000
JOB = NewJob(name="noop", payload=b"{}")

by_how = pytest.mark.parametrize("how", ["drop request", "drop reply"])


@pytest.fixture
def direct(place: Place) -> Iterator[PostgresStore]:
    store = PostgresStore(place.location)
    store.migrate()
    yield store
    store.close_all()


@pytest.fixture
def store(direct: PostgresStore, proxy: Proxy, place: Place) -> Iterator[PostgresStore]:
    """The same store, through the proxy."""
    found = PostgresStore.at(Place(proxy.dsn, place.options))
    yield found
    found.close_all()


def ids(store: PostgresStore) -> list[int]:
    return sorted(job.id for job in store.list_jobs(JobFilter(), limit=100, cursor=None).items)


@by_how
def test_a_job_is_enqueued_once(store: PostgresStore, direct: PostgresStore, proxy: Proxy, how: str) -> None:
    proxy.trip(b"enqueue_key", how)
    job = store.enqueue(JOB)
    assert proxy.tripped.is_set()
    assert ids(direct) == [job.id]
    assert job.created


@by_how
def test_a_job_with_a_key_is_enqueued_once_and_is_new(
    store: PostgresStore, direct: PostgresStore, proxy: Proxy, how: str
) -> None:
    proxy.trip(b"COMMIT\0", how)
    job = store.enqueue(NewJob(name="noop", payload=b"{}", idempotency_key="a"))
    assert proxy.tripped.is_set()
    assert job.created
    assert ids(direct) == [job.id]


@by_how
def test_a_batch_is_made_once(store: PostgresStore, direct: PostgresStore, proxy: Proxy, how: str) -> None:
    proxy.trip(b"COMMIT\0", how)
    made = store.enqueue_many([JOB, JOB], batch=NewBatch(name="both"))
    assert proxy.tripped.is_set()
    assert ids(direct) == sorted(made.ids)
    assert direct.batches.get(made.batch_id or 0).total == 2


@by_how
def test_a_change_is_made_once_and_not_found_made_already(
    store: PostgresStore, direct: PostgresStore, proxy: Proxy, how: str
) -> None:
    job = direct.enqueue(JOB)
    proxy.trip(b"COMMIT\0", how)
    assert store.cancel(job.id).state is JobState.CANCELLED
    assert proxy.tripped.is_set()
    proxy.trip(b"COMMIT\0", how)
    again = store.retry(job.id)
    assert proxy.tripped.is_set()
    assert again.created
    assert ids(direct) == [job.id, again.id]


class Supervision:
    """A supervisor's store through the proxy, and the loop's way of keeping outcomes until they are written."""

    def __init__(self, store: PostgresStore) -> None:
        self.store: SupervisorStore = store.supervisor_store()
        self.owner = self.store.register(registration(), HOUR_US)
        self.pending = list[object]()

    def commit(self) -> CommitResult:
        result = self.store.commit(self.owner, self.pending, claim=CLAIM)  # type: ignore[arg-type]
        self.pending = [completed(job, Instant(1, 1)) for job in result.claimed]
        return result


@by_how
def test_a_supervisors_commit_counts_once(
    store: PostgresStore, direct: PostgresStore, proxy: Proxy, how: str
) -> None:
    supervision = Supervision(store)
    made = [direct.enqueue(JOB).id for _ in range(3)]
    assert [job.id for job in supervision.commit().claimed] == made
    more = direct.enqueue(JOB).id
    proxy.trip(b"COMMIT\0", how)
    with pytest.raises(StoreUnreachable):
        supervision.commit()
    assert proxy.tripped.is_set()
    owned = {job_id for job_id, _ in supervision.store.renew(supervision.owner, HOUR_US).owned}
    assert owned == (set() if how == "drop reply" else set(made))  # and not what the caller does not know of
    result = supervision.commit()
    assert not result.rejected
    assert [(job.id, job.starts) for job in result.claimed] == [(more, 1)]
    supervision.commit()
    assert [direct.get(each).state for each in (*made, more)] == [JobState.COMPLETED] * 4
    assert [len(direct.attempts(each)) for each in (*made, more)] == [1] * 4
    supervision.store.close()


@by_how
def test_a_supervisor_is_registered_once(
    store: PostgresStore, direct: PostgresStore, proxy: Proxy, how: str
) -> None:
    owner = 0
    proxy.trip(b"COMMIT\0", how)
    found = store.supervisor_store()
    try:
        owner = found.register(registration(), HOUR_US)
    except StoreUnreachable:
        assert how == "drop request"
        owner = found.register(registration(), HOUR_US)
    assert proxy.tripped.is_set()
    assert [each.id for each in direct.supervisors()] == [owner]
    found.close()

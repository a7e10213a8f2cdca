"""Behind a proxy that pools transactions the store works, keeps no state in a session, and polls."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpdispatch.clock import Instant
from mpdispatch.model import ClaimRequest, JobState, NewBatch, NewJob
from mpdispatch.store.postgres import PostgresStore
from mpdispatch.store.postgres.options import Place
from tests.store.conftest import completed, registration
from tests.store.postgres.pooler import Pooler

CLAIM = ClaimRequest(queues=("default",), slots=10)
HOUR_US = 3_600_000_000


@pytest.fixture
def store(place: Place) -> Iterator[PostgresStore]:
    PostgresStore(place.location).migrate()
    with tempfile.TemporaryDirectory(prefix="mpd-pooler-", dir="/tmp") as folder:
        pooler = Pooler(place.dsn, Path(folder))
        found = PostgresStore.at(Place(pooler.dsn, place.options))
        yield found
        found.close_all()
        pooler.close()


def state_of_sessions(store: PostgresStore) -> list[tuple[object, ...]]:
    """Of a few of the server's connections: what a session of ours could have left there."""
    text = (
        "SELECT (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_listening_channels()),"
        " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),"
        " (SELECT count(*) FROM pg_settings WHERE source = 'session' AND name <> 'client_encoding')"
    )
    return [store._sessions.read(lambda c: c.execute(text).fetchone()) for _ in range(6)]


def test_jobs_are_enqueued_claimed_and_ended(store: PostgresStore, place: Place) -> None:
    jobs = [store.enqueue(NewJob(name="noop", payload=b"{}")).id for _ in range(12)]
    batch = store.enqueue_many([NewJob(name="noop", payload=b"{}")] * 3, batch=NewBatch(name="three"))
    supervisor = store.supervisor_store()
    owner = supervisor.register(registration(), HOUR_US)
    ended = list[int]()
    claimed = supervisor.commit(owner, [], claim=CLAIM).claimed
    while claimed:
        ended += [job.id for job in claimed]
        outcomes = [completed(job, Instant(1, 1)) for job in claimed]
        supervisor.renew(owner, HOUR_US)
        claimed = supervisor.commit(owner, outcomes, claim=CLAIM).claimed
    assert sorted(ended) == [*jobs, *batch.ids]
    assert store.counts()[JobState.COMPLETED] == 15
    assert store.batches.get(batch.batch_id or 0).ended_at is not None
    assert state_of_sessions(store) == [(0, 0, 0, 0)] * 6
    supervisor.close()


def test_threads_share_the_servers_connections(store: PostgresStore) -> None:
    def enqueue() -> None:
        for _ in range(10):
            store.enqueue(NewJob(name="noop", payload=b"{}"))
            store.enqueue_many([NewJob(name="noop", payload=b"{}")])

    threads = [threading.Thread(target=enqueue) for _ in range(5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert store.counts()[JobState.PENDING] == 100


def test_nobody_listens_and_doctor_says_so(store: PostgresStore) -> None:
    store.check()
    assert store.wake_ups is not None
    assert store.wake_ups.listen(1) is None
    assert store.wake_ups.listen_for_ends() is None
    (finding,) = [each for each in store.examine() if each.check == "proxy"]
    assert "pools transactions" in finding.message


def test_a_direct_connection_is_not_taken_for_a_proxys(place: Place) -> None:
    store = PostgresStore(place.location)
    store.migrate()
    store.check()
    (finding,) = [each for each in store.examine() if each.check == "proxy"]
    assert finding.message.startswith("no proxy")
    assert store.wake_ups is not None
    listener = store.wake_ups.listen(1)
    assert listener is not None
    listener.close()
    store.close_all()

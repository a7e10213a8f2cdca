"""What a Redis store asks of its server, and what it leaves on it."""

from __future__ import annotations

import os
import select
import warnings
from typing import Any

import pytest
import redis
import valkey

from mpdispatch.clock import SystemClock
from mpdispatch.errors import (
    LeaseLostError,
    StoreFull,
    StoreMissing,
    StorePermission,
    StoreTooNew,
    StoreTooOld,
    StoreUnreachable,
    UsageError,
)
from mpdispatch.model import ClaimRequest, JobState, Level, NewBatch, NewJob
from mpdispatch.store import open_store
from mpdispatch.store.filters import DeadLetterFilter, JobFilter, PruneFilter
from mpdispatch.store.redis import RedisStore, link
from mpdispatch.store.redis.library import library
from mpdispatch.store.values import Retention
from tests.servers.fixtures import NewServer, Place
from tests.store.conftest import completed, failed, registration, retrying

from .conftest import keys_of, new_job

TTL_US = 30_000_000
CLAIM = ClaimRequest(queues=("default",), slots=10)


# ---------------------------------------------------------------- what the Go original loses


def test_a_job_that_is_to_run_later_is_not_claimed_before(store: RedisStore) -> None:
    supervisor = store.supervisor_store()
    owner = supervisor.register(registration(), TTL_US)
    later = store.enqueue(new_job(delay_us=200_000))
    result = supervisor.commit(owner, [], claim=CLAIM)
    assert (later.state, [*result.claimed]) == (JobState.SCHEDULED, [])
    assert result.due_in_us is not None
    assert 0 < result.due_in_us <= 200_000
    select.select([], [], [], result.due_in_us / 1e6)
    assert [job.id for job in supervisor.commit(owner, [], claim=CLAIM).claimed] == [later.id]


def test_a_job_that_failed_is_run_again(store: RedisStore) -> None:
    supervisor = store.supervisor_store()
    owner = supervisor.register(registration(), TTL_US)
    store.enqueue(new_job())
    [job] = supervisor.commit(owner, [], claim=CLAIM).claimed
    supervisor.commit(owner, [retrying(job, SystemClock().now(), in_s=0)])
    [again] = supervisor.commit(owner, [], claim=CLAIM).claimed
    assert (again.id, again.starts, again.attempt) == (job.id, 2, 2)


# ---------------------------------------------------------------- what it leaves


def test_nothing_is_left_of_jobs_that_are_pruned(store: RedisStore, server: Any, place: Place) -> None:
    supervisor = store.supervisor_store()
    owner = supervisor.register(registration(), TTL_US)
    before = keys_of(server, place)
    large = b'{"t":"' + b"x" * 5000 + b'"}'
    first = store.enqueue(new_job(payload=large, idempotency_key="a"))
    store.enqueue(new_job(after=(first.id,), on_parent_failure="run"))
    store.enqueue_many(
        [new_job(), new_job(name="other", priority=3, expires_us=10**9)],
        batch=NewBatch(name="b", key="k", callbacks={"on_end": NewJob(name="render", payload=b"")}),
    )
    while jobs := supervisor.commit(owner, [], claim=CLAIM).claimed:
        now = SystemClock().now()
        outcomes = [failed(job, now) if job.name == "other" else completed(job, now, large) for job in jobs]
        supervisor.commit(owner, outcomes)
    [letter] = store.dead_letters(DeadLetterFilter(), limit=9, cursor=None).items
    store.purge_dead_letters(DeadLetterFilter())
    assert store.counts()[JobState.COMPLETED] == 4
    assert letter.name == "other"
    pruned = store.prune(PruneFilter())
    while supervisor.upkeep.prune(Retention(0, 0, None)).has_more:
        pass
    assert (sum(pruned.by_state.values()), store.list_jobs(JobFilter(), limit=9, cursor=None).items) == (5, [])
    assert {each for each in keys_of(server, place) if not each.startswith("reply:")} - before <= {
        *("ids", "queues")
    }


def test_all_keys_are_in_one_slot_of_a_cluster(store: RedisStore, server: Any, place: Place) -> None:
    store.enqueue(new_job())
    keys = list(server.scan_iter(f"*{place.name}*"))
    assert keys
    assert all(key.startswith(f"{{{place.name}}}:".encode()) for key in keys)


@pytest.mark.parametrize("queue", ["a:b", "6:render:render", "{x}", "é ü", "open", "'*?[a]"])
def test_a_queue_may_have_any_name(store: RedisStore, queue: str) -> None:
    supervisor = store.supervisor_store()
    owner = supervisor.register(registration(), TTL_US)
    names = ClaimRequest(queues=(queue, "render"), slots=5, names=frozenset({"other"}))
    parked, kept = store.enqueue(new_job(queue=queue)), store.enqueue(new_job(queue="render"))
    assert sum(supervisor.commit(owner, [], claim=names).parked.values()) == 2
    assert [*store.parked().values()] == [2]
    everything = ClaimRequest(queues=(queue, "render"), slots=5)
    assert [job.id for job in supervisor.commit(owner, [], claim=everything).claimed] == [parked.id, kept.id]
    assert store.parked() == {}


def test_stores_of_two_prefixes_know_nothing_of_each_other(place: Place, store: RedisStore) -> None:
    other = RedisStore(place.location, prefix=f"{place.name}x")
    with pytest.raises(StoreMissing):
        other.counts()
    other.migrate()
    store.enqueue(new_job())
    assert (sum(store.counts().values()), sum(other.counts().values())) == (1, 0)
    other.close_all()


# ---------------------------------------------------------------- opening


def test_reading_makes_no_store_and_enqueueing_does(place: Place, server: Any) -> None:
    fresh = RedisStore(place.location)
    with pytest.raises(StoreMissing):
        fresh.counts()
    assert keys_of(server, place) == set()
    assert fresh.enqueue(new_job()).id == 1
    fresh.close_all()


def test_a_store_that_was_deleted_is_made_again_by_an_enqueue_only(
    store: RedisStore, place: Place, server: Any
) -> None:
    supervisor = store.supervisor_store()
    owner = supervisor.register(registration(), TTL_US)
    store.enqueue(new_job())
    server.delete(*server.scan_iter(f"{{{place.name}}}:*"))
    with pytest.raises(StoreMissing):
        store.cancel(1)
    with pytest.raises(StoreMissing):
        supervisor.commit(owner, [], claim=CLAIM)
    assert keys_of(server, place) == set()
    assert store.enqueue(new_job(name="first")).id == 1
    assert RedisStore(place.location).get(1).name == "first"
    with pytest.raises(LeaseLostError):
        supervisor.commit(owner, [], claim=CLAIM)


@pytest.mark.parametrize(
    ("version", "error"), [(link.VERSION + 1, StoreTooNew), (link.VERSION - 1, StoreTooOld)]
)
def test_a_store_of_another_version_is_refused(
    store: RedisStore, place: Place, server: Any, version: int, error: type[Exception]
) -> None:
    server.hset(f"{{{place.name}}}:meta", "version", version)
    again = RedisStore(place.location)
    with pytest.raises(error):
        again.counts()
    again.close_all()


def test_its_location_opens_it_again(store: RedisStore) -> None:
    job = store.enqueue(new_job())
    again = open_store(store.location)
    assert (again.location, again.get(job.id)) == (store.location, job)
    again.close_all()


@pytest.mark.parametrize("library_of", [redis.Redis, valkey.Valkey])
def test_an_apps_client_opens_the_store_on_its_server(library_of: Any, place: Place, store: RedisStore) -> None:
    job = store.enqueue(new_job())
    with library_of.from_url(place.dsn, decode_responses=True) as client:
        theirs = RedisStore.of(client, prefix=place.name)
        assert theirs.get(job.id) == job
        theirs.close_all()


def test_what_is_no_client_is_refused() -> None:
    with pytest.raises(UsageError, match="client: must be a client or a URL"):
        RedisStore.of(object())


@pytest.mark.parametrize("url", ["redis://", "redis://host/x", "mysql://host", "redis://host:port", "redis:/x"])
def test_a_url_that_names_no_server_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        RedisStore(url)


def test_a_connection_of_an_app_is_refused(store: RedisStore) -> None:
    with pytest.raises(UsageError, match="connection="):
        store.enqueue(new_job(), connection=object())


def test_a_store_may_be_used_after_a_fork(store: RedisStore) -> None:
    store.enqueue(new_job())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            store.enqueue(new_job(name="child"))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    store.enqueue(new_job(name="parent"))
    names = [job.name for job in store.list_jobs(JobFilter(), limit=9, cursor=None).items]
    assert names == ["parent", "child", "render"]


# ---------------------------------------------------------------- the server


def test_a_server_without_functions_runs_the_library_as_a_script(
    store: RedisStore, place: Place, server: Any
) -> None:
    user = f"u{os.getpid()}"
    server.execute_command("ACL", "SETUSER", user, "on", ">secret", "~*", "&*", "+@all", "-function", "-fcall")
    path = place.dsn.removeprefix("unix://")
    theirs = RedisStore(f"redis+unix://{user}:secret@{path}", prefix=place.name)
    try:
        job = theirs.enqueue(new_job())
        assert (theirs.get(job.id), store.get(job.id)) == (job, job)
        assert "secret" not in theirs.display
    finally:
        theirs.close_all()
        server.execute_command("ACL", "DELUSER", user)


def test_a_wrong_password_is_told_at_once(place: Place) -> None:
    theirs = RedisStore(f"redis+unix://nobody:secret@{place.dsn.removeprefix('unix://')}", prefix=place.name)
    with pytest.raises(StorePermission) as caught:
        theirs.counts()
    assert "secret" not in str(caught.value)
    theirs.close_all()


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    nobody = RedisStore("redis://ann:secret@127.0.0.1:1/0")
    with pytest.raises(StoreUnreachable, match=r"redis://ann:\*\*\*@127.0.0.1:1/0"):
        nobody.supervisor_store().jobs_of(1)  # a supervisor does not wait for it


def test_a_full_server_refuses_new_jobs_and_ends_those_it_has(new_server: NewServer) -> None:
    store = RedisStore(new_server("valkey", maxmemory="12mb").dsn)
    store.migrate()
    payload = b'{"t":"' + b"x" * 100_000 + b'"}'
    with pytest.raises(StoreFull):
        [store.enqueue(new_job(payload=payload)) for _ in range(300)]
    kept = store.counts()[JobState.PENDING]
    assert kept == len(store.list_jobs(JobFilter(), limit=1000, cursor=None).items) > 0
    supervisor = store.supervisor_store()
    owner = supervisor.register(registration(), TTL_US)
    while jobs := supervisor.commit(owner, [], claim=CLAIM).claimed:
        supervisor.commit(owner, [completed(job, SystemClock().now()) for job in jobs])
    assert store.prune(PruneFilter()).by_state == {JobState.COMPLETED: kept}
    assert store.enqueue(new_job(payload=payload)).created
    store.close_all()


def test_the_library_is_loaded_again_after_a_restart_that_forgot_it(new_server: NewServer) -> None:
    server = new_server("valkey")
    store = RedisStore(server.dsn)
    store.enqueue(new_job())
    with redis.Redis.from_url(server.dsn) as client:
        client.execute_command("FUNCTION", "DELETE", library().name)
    assert store.enqueue(new_job()).id == 2
    store.close_all()


def test_a_killed_server_keeps_what_it_has_acknowledged(new_server: NewServer) -> None:
    server = new_server("valkey")
    store = RedisStore(server.dsn)
    ids = [store.enqueue(new_job()).id for _ in range(5)]
    server.kill()
    server.restart()
    assert store.counts()[JobState.PENDING] == len(ids)
    assert store.enqueue(new_job()).id == 6
    store.close_all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"appendonly": "no"}, "appendonly is off"),
        ({"appendfsync": "everysec"}, "appendfsync everysec"),
        ({"maxmemory_policy": "allkeys-lru"}, "maxmemory-policy is allkeys-lru"),
    ],
)
def test_a_supervisor_warns_of_a_server_that_may_lose_jobs(
    new_server: NewServer, settings: dict[str, str], words: str
) -> None:
    store = RedisStore(new_server("valkey", **settings).dsn)
    store.migrate()
    with pytest.warns(UserWarning, match=words):
        store.supervisor_store().register(registration(), TTL_US)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.supervisor_store().register(registration(), TTL_US)
    [found] = [each for each in store.examine() if each.needs_doing]
    assert (found.level, words in found.message) == (Level.WARNING, True)
    store.close_all()


def test_a_durable_server_gives_no_warning(store: RedisStore) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.supervisor_store().register(registration(), TTL_US)
    assert not [each for each in store.examine() if each.needs_doing]


# ---------------------------------------------------------------- wake-ups


def test_an_enqueue_wakes_supervisors_and_an_end_wakes_clients(store: RedisStore, place: Place) -> None:
    supervisor = store.supervisor_store()
    owner = supervisor.register(registration(), TTL_US)
    assert store.wake_ups is not None
    work, ends = store.wake_ups.listen(owner), store.wake_ups.listen_for_ends()
    assert work is not None
    assert ends is not None
    other = RedisStore(place.location)
    job = other.enqueue(new_job())
    assert (_hears(work), _hears(ends, 0)) == (True, False)
    work.drain()
    assert (_hears(work, 0), work.is_in_place()) == (False, True)
    [claimed] = supervisor.commit(owner, [], claim=CLAIM).claimed
    supervisor.commit(owner, [completed(claimed, SystemClock().now())])
    assert (claimed.id, _hears(ends)) == (job.id, True)
    for each in (work, ends):
        each.close()
    other.close_all()


def test_a_listener_whose_server_ends_is_not_in_place(new_server: NewServer) -> None:
    server = new_server("valkey")
    store = RedisStore(server.dsn)
    store.migrate()
    assert store.wake_ups is not None
    listener = store.wake_ups.listen(1)
    assert listener is not None
    assert listener.is_in_place()
    server.kill()
    fd = listener.fileno()
    assert _hears(listener)  # the end of the connection
    for _ in range(2):
        listener.drain()
    assert not listener.is_in_place()
    assert (listener.fileno(), _hears(listener, 0)) == (fd, False)  # whoever selects on it is left in peace
    listener.close()
    assert store.wake_ups.listen(1) is None
    store.close_all()


def _hears(listener: Any, for_s: float = 5) -> bool:
    return bool(select.select([listener], [], [], for_s)[0])


# ---------------------------------------------------------------- very many


def test_a_list_goes_on_past_very_many_that_do_not_match(store: RedisStore) -> None:
    wanted = store.enqueue(new_job(name="rare"))
    store.enqueue_many([new_job()] * 2500)
    found = store.list_jobs(JobFilter(name="rare"), limit=5, cursor=None)
    assert ([job.id for job in found.items], found.next_cursor) == ([wanted.id], None)


def test_a_large_batch_is_cancelled_in_steps(store: RedisStore) -> None:
    batch_id, ids = store.enqueue_many([new_job()] * 2500)
    assert batch_id is not None
    info = store.batches.cancel(batch_id)
    assert (info.counts[JobState.CANCELLED], info.ended_at is not None) == (2500, True)
    assert set(store.ended(ids).values()) == {JobState.CANCELLED}


def test_steps_of_pruning_pass_over_jobs_that_stay(store: RedisStore) -> None:
    supervisor = store.supervisor_store()
    owner = supervisor.register(registration(), TTL_US)
    _, ids = store.enqueue_many([new_job()] * 450)
    waiting = store.enqueue(new_job(queue="other", after=(ids[0], ids[300]), on_parent_failure="wait"))
    many = ClaimRequest(queues=("default",), slots=1000)
    jobs = supervisor.commit(owner, [], claim=many).claimed
    supervisor.commit(owner, [completed(job, SystemClock().now()) for job in jobs])
    pruned = store.prune(PruneFilter())
    assert pruned.by_state == {JobState.COMPLETED: 448}
    assert [each.id for each in store.parents(waiting.id)] == [ids[0], ids[300]]

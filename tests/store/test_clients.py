"""What every store does for clients."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest

from mpdispatch.clock import Instant
from mpdispatch.errors import InvalidStateError, JobNotFoundError, UsageError
from mpdispatch.model import AlikeJobs, Job, JobState, NewJob
from mpdispatch.store.contract import Store
from mpdispatch.store.filters import JobFilter
from mpdispatch.store.sql.rows import moment
from tests.clock import FakeClock

from .conftest import ERROR, MINUTE_US, Desk, completed, failed, released, retrying
from .requests import request

Enqueue = Callable[..., Job]


def test_enqueue_gives_the_job_as_get_reads_it(store: Store, enqueue: Enqueue, now: Instant) -> None:
    job = enqueue(
        payload={"path": "ä.pdf", "dpi": 300, "deep": [{"a": None}]},
        queue="bulk",
        priority=-3,
        max_retries=0,
        timeout_us=1_500_000,
        idempotency_key="a.pdf",
    )
    assert store.get(job.id) == job
    assert job.payload == {"path": "ä.pdf", "dpi": 300, "deep": [{"a": None}]}
    assert (job.state, job.created, job.timeout, job.attempt, job.starts) == (JobState.PENDING, True, 1.5, 0, 0)
    assert job.run_at == job.created_at == moment(now.wall_us)
    assert job.run_at.utcoffset() == timedelta(0)


def test_times_are_exact_to_the_microsecond(store: Store, enqueue: Enqueue) -> None:
    job = enqueue(run_at_us=4_102_444_800_000_001)
    assert store.get(job.id).run_at.isoformat() == "2100-01-01T00:00:00.000001+00:00"


def test_a_job_for_later_is_scheduled_and_one_for_the_past_is_pending(enqueue: Enqueue, now: Instant) -> None:
    assert enqueue(run_at_us=now.wall_us + 1).state is JobState.SCHEDULED
    past = enqueue(run_at_us=now.wall_us - MINUTE_US)
    assert (past.state, past.run_at) == (JobState.PENDING, moment(now.wall_us - MINUTE_US))


@pytest.mark.parametrize("size", [0, 1000, 1100, 2**20])
def test_payloads_of_any_size_come_back_whole(store: Store, enqueue: Enqueue, desk: Desk, size: int) -> None:
    job = enqueue(payload={"text": "ß" * (size // 2)})
    assert store.get(job.id) == job
    (claimed,) = desk.claim()
    assert msgspec.json.decode(claimed.payload) == job.payload
    assert [each.payload for each in desk.supervisor_store.jobs_of(desk.owner)] == [claimed.payload]


def test_an_idempotency_key_gives_the_first_job_again(store: Store, enqueue: Enqueue) -> None:
    first = enqueue(payload={"n": 1}, idempotency_key="k")
    second = enqueue(payload={"n": 2}, idempotency_key="k", queue="bulk")
    assert (second.id, second.created, second.payload) == (first.id, False, {"n": 1})
    assert store.counts()[JobState.PENDING] == 1
    assert enqueue(name="other", idempotency_key="k").created


def test_a_key_holds_as_long_as_its_row_whatever_the_state(enqueue: Enqueue, desk: Desk, now: Instant) -> None:
    first = enqueue(idempotency_key="k")
    (claimed,) = desk.claim()
    desk.commit(completed(claimed, now))
    again = enqueue(idempotency_key="k")
    assert (again.id, again.created, again.state) == (first.id, False, JobState.COMPLETED)


def test_enqueue_many_gives_contiguous_ids_of_one_batch(store: Store, enqueue: Enqueue, now: Instant) -> None:
    enqueue()
    template = NewJob(name="resize", payload=b"", queue="bulk", priority=2, run_at_us=now.wall_us + 5)
    payloads = [msgspec.json.encode({"n": n, "pad": "x" * (n * 500)}) for n in range(5)]
    batch_id, ids = store.enqueue_many(AlikeJobs(template, payloads), closes=False)
    assert ids == range(ids[0], ids[0] + 5)
    jobs = [store.get(job_id) for job_id in ids]
    assert [job.payload["n"] for job in jobs] == [0, 1, 2, 3, 4]
    assert {job.batch_id for job in jobs} == {batch_id}
    assert {(job.queue, job.priority, job.state) for job in jobs} == {("bulk", 2, JobState.SCHEDULED)}
    more = store.enqueue_many(AlikeJobs(template, payloads[:2]), batch=batch_id)
    assert (more.batch_id, more.ids[0]) == (batch_id, ids[-1] + 1)
    assert store.get(more.ids[0]).batch_id == batch_id


def test_enqueue_many_of_nothing_is_nothing(store: Store) -> None:
    for jobs in ([], AlikeJobs(NewJob(name="a", payload=b""), [])):
        batch_id, ids = store.enqueue_many(jobs)
        assert batch_id is None
        assert list(ids) == []


LARGE = b'{"text":"%b"}' % (b"x" * 3000)


def test_each_of_many_jobs_has_its_own_options_and_key(store: Store, clock: FakeClock) -> None:
    older = store.enqueue(NewJob(name="a", payload=b"{}", idempotency_key="used"))
    later_us = clock.now().wall_us + 1_000_000
    jobs = [
        NewJob(name="a", payload=b"{}", idempotency_key="used"),
        NewJob(name="a", payload=b'{"n":1}', queue="bulk", timeout_us=5),
        NewJob(name="a", payload=b'{"n":2}', queue="bulk", timeout_us=5),
        NewJob(name="b", payload=LARGE, priority=7, max_retries=0, run_at_us=later_us),
        NewJob(name="a", payload=b"{}", idempotency_key="new", trace_context='{"traceparent":"00"}'),
        NewJob(name="a", payload=b"{}", idempotency_key="new", queue="elsewhere"),
    ]
    batch_id, ids = store.enqueue_many(jobs, closes=False)
    assert ids == [older.id, *(older.id + n for n in (1, 2, 3, 4, 4))]
    made = [store.get(job_id) for job_id in ids]
    assert [job.batch_id for job in made] == [None, *[batch_id] * 5], "an older one stays where it is"
    assert [(job.name, job.queue, job.priority, job.max_retries) for job in made[1:5]] == [
        ("a", "bulk", 0, 3),
        ("a", "bulk", 0, 3),
        ("b", "default", 7, 0),
        ("a", "default", 0, 3),
    ]
    assert [job.payload for job in made[1:4]] == [{"n": 1}, {"n": 2}, msgspec.json.decode(LARGE)]
    assert (made[3].state, made[1].timeout, made[4].idempotency_key) == (JobState.SCHEDULED, 5e-6, "new")
    (again,) = store.enqueue_many([NewJob(name="a", payload=b"{}")], batch=batch_id).ids
    assert store.get(again).batch_id == batch_id


NOBODYS = [41, 0, -1, 1 << 63, 10**30, -(10**30)]


@pytest.mark.parametrize("job_id", NOBODYS)
@pytest.mark.parametrize("call", ["get", "state_of", "attempts", "outputs", "dead_letter"])
def test_what_is_not_there_is_not_found(store: Store, call: str, job_id: int) -> None:
    with pytest.raises(JobNotFoundError, match=f" {job_id} not found"):
        getattr(store, call)(job_id)


@pytest.mark.parametrize("job_id", NOBODYS)
@pytest.mark.parametrize("call", ["cancel", "retry", "replay"])
def test_what_is_not_there_cannot_be_changed(store: Store, call: str, job_id: int) -> None:
    with pytest.raises(JobNotFoundError, match=f" {job_id} not found"):
        getattr(store, call)(job_id)


@pytest.mark.parametrize("job_id", [0, -1, 1, 2**63])
def test_nothing_is_ahead_of_what_is_not_there(store: Store, job_id: int) -> None:
    assert store.ahead(job_id) == 0


def test_counts_name_every_state(store: Store, enqueue: Enqueue, desk: Desk, now: Instant) -> None:
    assert store.counts() == dict.fromkeys(JobState, 0)
    for _ in range(5):
        enqueue()
    enqueue(run_at_us=now.wall_us + MINUTE_US)
    first, second, third, _ = desk.claim(4)
    desk.commit(completed(first, now), failed(second, now), retrying(third, now))
    assert store.counts() == {
        JobState.SCHEDULED: 1,
        JobState.PENDING: 1,
        JobState.RUNNING: 1,
        JobState.RETRYING: 1,
        JobState.COMPLETED: 1,
        JobState.FAILED: 1,
        JobState.CANCELLED: 0,
    }
    assert store.dead_letter_count() == 1


def test_pages_go_from_new_to_old_and_end(store: Store, enqueue: Enqueue) -> None:
    ids = [enqueue(name="ab"[n % 2], queue="xyz"[n % 3]).id for n in range(12)]
    page = store.list_jobs(JobFilter(), limit=5, cursor=None)
    assert [job.id for job in page.items] == ids[:-6:-1]
    seen = [job.id for job in page.items]
    while page.next_cursor is not None:
        page = store.list_jobs(JobFilter(), limit=5, cursor=page.next_cursor)
        seen += [job.id for job in page.items]
    assert seen == ids[::-1]
    exact = store.list_jobs(JobFilter(), limit=12, cursor=None)
    assert (len(exact.items), exact.next_cursor) == (12, None)
    some = store.list_jobs(JobFilter(name="a", queue="x", state=JobState.PENDING), limit=9, cursor=None)
    assert [job.id for job in some.items] == [ids[6], ids[0]]


@pytest.mark.parametrize("state", list(JobState))
def test_each_state_can_be_listed(store: Store, enqueue: Enqueue, desk: Desk, now: Instant, state: str) -> None:
    for _ in range(5):
        enqueue()
    store.cancel(enqueue(queue="else").id)
    enqueue(run_at_us=now.wall_us + MINUTE_US)
    first, second, third, _ = desk.claim(4)
    desk.commit(completed(first, now), failed(second, now), retrying(third, now))
    page = store.list_jobs(JobFilter(state=JobState(state)), limit=9, cursor=None)
    assert [job.state for job in page.items] == [state]


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1; DROP TABLE", "٣", "9" * 40])
def test_a_cursor_that_is_none_is_a_usage_error(store: Store, cursor: str) -> None:
    with pytest.raises(UsageError, match="cursor"):
        store.list_jobs(JobFilter(), limit=1, cursor=cursor)


def test_a_limit_below_one_is_a_usage_error(store: Store) -> None:
    with pytest.raises(UsageError, match="limit"):
        store.list_jobs(JobFilter(), limit=0, cursor=None)


@pytest.mark.parametrize("name", ["'; DROP TABLE mpdispatch_jobs; --", 'q"q', "naïve ✓", "%", "%s", "?"])
def test_names_and_queues_are_values_never_sql(store: Store, enqueue: Enqueue, name: str) -> None:
    job = enqueue(name=name, queue=name)
    assert store.get(job.id) == job
    page = store.list_jobs(JobFilter(name=name, queue=name), limit=9, cursor=None)
    assert page.items == [job]


@pytest.mark.kinds("file", "memory", "redis", "valkey")
def test_a_name_may_hold_a_nul(store: Store, enqueue: Enqueue) -> None:
    job = enqueue(name="a\0b")
    assert store.get(job.id) == job


@pytest.mark.kinds("postgres")
def test_a_name_with_a_nul_is_refused_where_text_has_none(store: Store, enqueue: Enqueue) -> None:
    with pytest.raises(UsageError, match="without NUL"):
        enqueue(name="a\0b")
    assert enqueue().id == 1


# ---------------------------------------------------------------- cancel


def test_cancel_ends_a_waiting_job_at_once(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock
) -> None:
    now = clock.now()
    waiting = enqueue()
    (claimed,) = desk.claim()
    desk.commit(retrying(claimed, now))
    later = clock.advance(1)
    for job in (waiting, enqueue(), enqueue(run_at_us=later.wall_us + MINUTE_US)):
        cancelled = store.cancel(job.id)
        assert (cancelled.state, cancelled.completed_at) == (JobState.CANCELLED, moment(later.wall_us))
    clock.advance(3600)
    assert desk.claim() == []


def test_cancel_of_a_running_job_reaches_its_supervisor(
    store: Store, enqueue: Enqueue, new_desk: Callable[[], Desk]
) -> None:
    desk, other = new_desk(), new_desk()
    enqueue()
    (claimed,) = desk.claim()
    assert desk.supervisor_store.cancel_requests(desk.owner) == []
    assert store.cancel(claimed.id).state is JobState.RUNNING
    store.cancel(claimed.id)
    assert desk.supervisor_store.cancel_requests(desk.owner) == [(claimed.id, claimed.starts)]
    assert other.supervisor_store.cancel_requests(other.owner) == []


def test_a_cancel_is_not_lost_when_the_job_would_run_again(
    store: Store, enqueue: Enqueue, desk: Desk, now: Instant
) -> None:
    enqueue()
    enqueue()
    first, second = desk.claim()
    store.cancel(first.id)
    store.cancel(second.id)
    desk.commit(retrying(first, now), released(second, now))
    for each in (first, second):
        job = store.get(each.id)
        assert (job.state, job.completed_at) == (JobState.CANCELLED, moment(now.wall_us))


def test_a_request_to_cancel_does_not_hold_for_the_next_start(
    store: Store, enqueue: Enqueue, desk: Desk, now: Instant
) -> None:
    job = enqueue()
    (claimed,) = desk.claim()
    store.cancel(job.id)
    desk.commit(failed(claimed, now))
    again = store.retry(job.id)
    (claimed,) = desk.claim()
    assert claimed.id == again.id
    assert desk.supervisor_store.cancel_requests(desk.owner) == []


def test_what_ended_cannot_be_cancelled(store: Store, enqueue: Enqueue, desk: Desk, now: Instant) -> None:
    enqueue()
    enqueue()
    first, second = desk.claim()
    desk.commit(completed(first, now), failed(second, now))
    for job_id in (first.id, second.id):
        with pytest.raises(InvalidStateError, match="can be cancelled"):
            store.cancel(job_id)


# ---------------------------------------------------------------- retry


def test_retry_of_a_waiting_job_makes_it_due_now(
    store: Store, enqueue: Enqueue, desk: Desk, now: Instant
) -> None:
    scheduled = enqueue(run_at_us=now.wall_us + MINUTE_US)
    enqueue()
    (claimed,) = desk.claim()
    desk.commit(retrying(claimed, now))
    for job_id in (scheduled.id, claimed.id):
        job = store.retry(job_id)
        assert (job.id, job.state, job.run_at) == (job_id, JobState.PENDING, moment(now.wall_us))
    assert [job.id for job in desk.claim()] == [scheduled.id, claimed.id]
    assert store.get(claimed.id).attempt == 2


@pytest.mark.parametrize("padding", [0, 5000])
def test_retry_of_a_failed_job_makes_a_new_one_and_marks_the_dead_letter(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock, padding: int
) -> None:
    old = enqueue(
        payload={"text": "x" * padding},
        queue="bulk",
        priority=7,
        max_retries=2,
        timeout_us=9_000_000,
        idempotency_key="k",
    )
    (claimed,) = desk.claim(claim=request("bulk"))
    desk.commit(failed(claimed, clock.now()))
    ended = store.get(old.id)
    later = clock.advance(5)
    new = store.retry(old.id)
    assert new.id != old.id
    assert (new.retried_from, new.state, new.attempt, new.starts) == (old.id, JobState.PENDING, 0, 0)
    assert new.created_at == new.run_at == moment(later.wall_us)
    for same in ("name", "payload", "queue", "priority", "max_retries", "timeout"):
        assert getattr(new, same) == getattr(old, same)
    assert (new.last_error, new.idempotency_key) == (None, None)
    assert store.get(old.id) == msgspec.structs.replace(ended, retried_as=new.id)
    assert store.dead_letter_count() == 0


def test_retry_of_a_cancelled_job_makes_a_new_one(store: Store, enqueue: Enqueue) -> None:
    job = enqueue()
    store.cancel(job.id)
    assert store.retry(job.id).retried_from == job.id


def test_pending_running_and_completed_jobs_cannot_be_retried(
    store: Store, enqueue: Enqueue, desk: Desk, now: Instant
) -> None:
    for _ in range(2):
        enqueue()
    first, second = desk.claim()
    desk.commit(completed(first, now))
    for job_id in (first.id, second.id, enqueue().id):
        with pytest.raises(InvalidStateError, match="can be retried"):
            store.retry(job_id)
    assert sum(store.counts().values()) == 3


# ---------------------------------------------------------------- queues


def test_a_paused_queue_gives_its_jobs_a_reason(store: Store, enqueue: Enqueue) -> None:
    job = enqueue(queue="bulk")
    store.set_paused("bulk", True)
    assert store.get(job.id).blocked_reason == "queue 'bulk' is paused"
    assert store.get(enqueue(queue="other").id).blocked_reason is None
    store.set_paused("bulk", False)
    assert store.get(job.id).blocked_reason is None


def test_queue_stats_count_every_state_of_every_queue(
    store: Store, enqueue: Enqueue, desk: Desk, now: Instant
) -> None:
    enqueue()
    enqueue()
    enqueue(queue="bulk", run_at_us=now.wall_us + 1)
    desk.claim(1)
    store.set_paused("empty", True)
    stats = {each.name: each for each in store.queue_stats()}
    assert list(stats) == ["bulk", "default", "empty"]
    assert {state: n for state, n in stats["default"].jobs.items() if n} == {"pending": 1, "running": 1}
    assert {state: n for state, n in stats["bulk"].jobs.items() if n} == {"scheduled": 1}
    assert [stats[name].is_paused for name in stats] == [False, False, True]
    assert all(set(each.jobs) == {str(state) for state in JobState} for each in stats.values())


def test_the_last_error_is_that_of_the_last_start_that_had_one(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock
) -> None:
    job = enqueue()
    for message in ("first", "second " + "x" * 60_000):
        (claimed,) = desk.claim()
        error = msgspec.structs.replace(ERROR, message=message)
        desk.commit(msgspec.structs.replace(retrying(claimed, clock.now(), in_s=0), error=error))
        assert store.get(job.id).last_error == error
    (claimed,) = desk.claim()
    desk.commit(completed(claimed, clock.now()))
    assert store.get(job.id).last_error == error

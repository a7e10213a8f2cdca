"""Dead letters, on every kind of store: looked at, replayed once, purged without being in anybody's way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from mpdispatch.errors import (
    DeadLetterNotFoundError,
    InvalidStateError,
    JobNotFoundError,
    StoreBusy,
    UsageError,
)
from mpdispatch.model import AlikeJobs, ErrorInfo, Failure, Job, JobState, NewBatch, NewJob
from mpdispatch.store import SQLiteStore
from mpdispatch.store.contract import Store
from mpdispatch.store.filters import DeadLetterFilter, JobFilter
from mpdispatch.store.sql import dead_letters
from mpdispatch.store.sql.queries import QUERIES
from tests.clock import FakeClock
from tests.kinds import sqlite_only

from .conftest import ERROR, Desk, Woken, completed, failed, retrying

OPEN = DeadLetterFilter()
ALL = DeadLetterFilter(is_replayed=None)


@pytest.fixture
def fail(desk: Desk, enqueue: Callable[..., Job], clock: FakeClock) -> Callable[..., int]:
    """Enqueues a job, has it fail a second later, and gives its id."""

    def make(name: str = "render", error: ErrorInfo = ERROR, **options: object) -> int:
        job = enqueue(name, **options)
        (claimed,) = desk.claim()
        clock.advance(1)
        desk.commit(failed(claimed, clock.now(), error=error))
        return job.id

    return make


def ids(store: Store, where: DeadLetterFilter = OPEN) -> list[int]:
    return [letter.id for letter in store.dead_letters(where, limit=100, cursor=None).items]


def test_a_dead_letter_is_its_failed_job(store: Store, fail: Callable[..., int]) -> None:
    job_id = fail(payload={"path": "x"})
    letter = store.dead_letter(job_id)
    assert (letter.id, letter.job.state, letter.job.payload) == (job_id, JobState.FAILED, {"path": "x"})
    assert str(letter.job.last_error) == "ValueError: no such page"
    assert letter.failed_at == letter.job.completed_at
    assert (letter.replayed_at, letter.replayed_as) == (None, None)


def test_letters_are_listed_last_failed_first_and_by_filter(store: Store, fail: Callable[..., int]) -> None:
    first, second, third = fail(), fail("mail"), fail()
    assert ids(store) == [third, second, first]
    assert ids(store, DeadLetterFilter(name="mail")) == [second]
    assert ids(store, DeadLetterFilter(queue="nowhere")) == []
    assert ids(store, DeadLetterFilter(queue="default", name="render")) == [third, first]


BUSY = ErrorInfo(type="shop.Busy", message='say "please" – 421', traceback="Traceback … ValueError")


def test_letters_are_found_by_a_part_of_their_error(store: Store, fail: Callable[..., int]) -> None:
    first, busy, last = fail(), fail(error=BUSY), fail()
    quiet = fail(error=ErrorInfo(type="MemoryError", message=""))
    for text, wanted in (
        ("no such", [last, first]),
        ("ValueError: no", [last, first]),  # of type and message, not of the traceback
        ('shop.Busy: say "please" –', [busy]),
        ("MemoryError", [quiet]),
        ("valueerror", []),
        ("%", []),
    ):
        assert ids(store, DeadLetterFilter(error=text)) == wanted, text
    page = store.dead_letters(DeadLetterFilter(error="no such"), limit=1, cursor=None)
    assert [each.id for each in page.items] == [last]
    rest = store.dead_letters(DeadLetterFilter(error="no such"), limit=5, cursor=page.next_cursor)
    assert ([each.id for each in rest.items], rest.next_cursor) == ([first], None)
    assert store.purge_dead_letters(DeadLetterFilter(is_replayed=None, error="Busy")) == 1
    assert ids(store) == [quiet, last, first]


def test_letters_and_jobs_are_found_by_their_batch(store: Store, fail: Callable[..., int]) -> None:
    one, other = (store.batches.open(NewBatch(name=name)).id for name in ("one", "other"))
    mine, _, second = fail(batch_id=one), fail(batch_id=other), fail(batch_id=one)
    alone = fail()
    assert ids(store, DeadLetterFilter(batch_id=one)) == [second, mine]
    new = store.replay(mine)

    def members(**more: object) -> list[int]:
        where = JobFilter(batch_id=one, **more)  # type: ignore[arg-type]
        return [job.id for job in store.list_jobs(where, limit=9, cursor=None).items]

    assert members() == [new.id, second], "not the job whose place another has taken"
    assert members(state=JobState.FAILED) == [second]
    assert members(state=JobState.PENDING) == [new.id]
    assert members(name="else") == []
    assert ids(store) == [alone, second, second - 1]


@pytest.mark.parametrize("batch_id", [0, -1, 1 << 63, True, "1", 1.5])
def test_what_is_no_id_of_a_batch_is_refused(batch_id: object) -> None:
    for kind in (DeadLetterFilter, JobFilter):
        with pytest.raises(UsageError, match="batch: must be the id of a batch"):
            kind(batch_id=batch_id)  # type: ignore[arg-type]


def test_an_empty_text_finds_no_error() -> None:
    with pytest.raises(UsageError, match="error: must not be empty"):
        DeadLetterFilter(error="")


def test_failures_are_letters_without_arguments_and_traceback(store: Store, fail: Callable[..., int]) -> None:
    first, busy = fail(), fail("mail", error=BUSY)
    page = store.failures(OPEN, limit=1, cursor=None)
    letter = store.dead_letter(busy)
    (found,) = page.items
    assert found == Failure(
        id=busy,
        name="mail",
        failed_at_us=round(letter.failed_at.timestamp() * 1_000_000),
        type="shop.Busy",
        message='say "please" – 421',
    )
    rest = store.failures(OPEN, limit=1, cursor=page.next_cursor)
    assert ([each.id for each in rest.items], rest.next_cursor) == ([first], None)
    store.replay(first)
    assert [each.id for each in store.failures(OPEN, limit=9, cursor=None).items] == [busy]
    assert [each.id for each in store.failures(ALL, limit=9, cursor=None).items] == [busy, first]


def test_a_failure_that_runs_again_does_not_count_as_failed(
    store: Store, desk: Desk, fail: Callable[..., int], clock: FakeClock
) -> None:
    first, second, bulk = fail(), fail(), fail(queue="default", name="mail")
    assert store.counts()[JobState.FAILED] == 3
    new = store.replay(first)
    store.retry(bulk)
    assert (store.counts()[JobState.FAILED], store.counts()[JobState.PENDING]) == (1, 2)
    (queue,) = store.queue_stats()
    assert queue.jobs["failed"] == 1
    assert store.get(first).retried_as == new.id
    assert store.get(second).retried_as is None
    # It fails again: that one counts.
    claimed = next(job for job in desk.claim() if job.id == new.id)
    desk.commit(failed(claimed, clock.now()))
    assert store.counts()[JobState.FAILED] == 2
    # A purged letter is no replay, and a retry after it is one.
    store.purge_dead_letters(ALL)
    assert store.counts()[JobState.FAILED] == 2
    store.retry(second)
    assert store.counts()[JobState.FAILED] == 1


def test_a_cancelled_job_that_runs_again_still_counts_as_cancelled(
    store: Store, enqueue: Callable[..., Job]
) -> None:
    job = store.cancel(enqueue().id)
    store.retry(job.id)
    assert store.counts()[JobState.CANCELLED] == 1


# ---------------------------------------------------------------- many again


def test_many_run_again_each_once(
    store: Store, desk: Desk, fail: Callable[..., int], enqueue: Callable[..., Job], clock: FakeClock
) -> None:
    failures = [fail(payload={"n": n}) for n in range(3)]
    enqueue("later", delay_us=60_000_000)
    job = enqueue("again")
    (claimed,) = desk.claim()
    desk.commit(retrying(claimed, clock.now()))
    cancelled = store.cancel(enqueue().id).id
    later, waiting, done = job.id - 1, enqueue("else").id, enqueue().id
    for each in desk.claim():
        if each.id == done:
            desk.commit(completed(each, clock.now()))
    jobs, errors = store.retry_many([*failures, later, later, job.id, cancelled, waiting, done, 999])
    assert errors == {}
    assert [each.retried_from or each.id for each in jobs] == [*failures, later, job.id, cancelled]
    assert [each.payload for each in jobs[:3]] == [{"n": n} for n in range(3)]
    assert {each.state for each in jobs} == {JobState.PENDING}
    assert [store.get(each).retried_as for each in failures] == [each.id for each in jobs[:3]]
    assert ids(store) == []
    # What runs again already, waits or has completed is left out.
    assert store.retry_many([*failures, later, job.id, cancelled, waiting, done]) == ([], {})


def test_a_failure_whose_letter_was_purged_is_not_among_many(store: Store, fail: Callable[..., int]) -> None:
    gone = fail()
    store.purge_dead_letters(ALL)
    left = fail()
    jobs, errors = store.retry_many([gone, left])
    assert ([job.retried_from for job in jobs], errors) == ([left], {})


def test_many_again_wake_supervisors_once_and_are_members_of_their_batch(
    store: Store, fail: Callable[..., int]
) -> None:
    batch = store.batches.open(NewBatch(name="b")).id
    made = [fail(batch_id=batch) for _ in range(3)]
    store.batches.close(batch)
    assert store.batches.get(batch).ended_at is not None
    woken = Woken(store)
    jobs, _ = store.retry_many(made)
    assert woken.times() == 1
    info = store.batches.get(batch)
    assert (info.ended_at, info.total, info.counts["failed"], info.counts["pending"]) == (None, 3, 0, 3)
    assert {job.batch_id for job in jobs} == {batch}


def test_pages_meet_every_letter_once_also_while_others_fail(store: Store, fail: Callable[..., int]) -> None:
    made = [fail() for _ in range(5)]
    found, cursor = list[int](), None
    while True:
        page = store.dead_letters(OPEN, limit=2, cursor=cursor)
        found += [letter.id for letter in page.items]
        fail()
        if (cursor := page.next_cursor) is None:
            break
    assert found == made[::-1]


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "9" * 30, "1; DROP TABLE"])
def test_what_is_no_cursor_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(UsageError, match="no cursor"):
        store.dead_letters(OPEN, limit=1, cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(store: Store, fail: Callable[..., int], limit: int) -> None:
    fail()
    with pytest.raises(UsageError, match="limit must be 1 or more"):
        store.dead_letters(OPEN, limit=limit, cursor=None)


def test_a_job_that_has_not_failed_is_no_dead_letter(
    store: Store, desk: Desk, enqueue: Callable[..., Job], clock: FakeClock
) -> None:
    job = enqueue()
    (claimed,) = desk.claim()
    desk.commit(retrying(claimed, clock.now()))
    for look in (store.dead_letter, lambda each: store.replay(each)):
        for job_id in (job.id, 99):
            with pytest.raises(DeadLetterNotFoundError, match=f"dead letter {job_id} not found"):
                look(job_id)
    assert issubclass(DeadLetterNotFoundError, JobNotFoundError)


def test_replay_makes_a_new_job_and_leaves_the_old_one_as_it_ended(
    store: Store, fail: Callable[..., int], clock: FakeClock
) -> None:
    old_id = fail(payload={"blob": "x" * 5000}, priority=4, idempotency_key="k")
    before = store.get(old_id)
    clock.advance(60)
    job = store.replay(old_id)
    assert (job.created, job.state, job.retried_from, job.priority) == (True, JobState.PENDING, old_id, 4)
    assert (job.payload, job.attempt, job.idempotency_key) == (before.payload, 0, None)
    assert store.get(old_id) == msgspec.structs.replace(before, retried_as=job.id)
    letter = store.dead_letter(old_id)
    assert letter.replayed_as == job.id
    assert letter.replayed_at == job.created_at
    assert (ids(store), ids(store, DeadLetterFilter(is_replayed=True)), ids(store, ALL)) == (
        [],
        [old_id],
        [old_id],
    )


@pytest.mark.parametrize("second", ["replay", "retry"])
@pytest.mark.parametrize("first", ["replay", "retry"])
def test_replayed_or_retried_twice_makes_one_job(
    store: Store, fail: Callable[..., int], first: str, second: str
) -> None:
    old_id = fail()
    one, two = getattr(store, first)(old_id), getattr(store, second)(old_id)
    assert (one.id, one.created, two.created) == (two.id, True, False)
    assert store.counts()[JobState.PENDING] == 1
    assert store.dead_letter(old_id).replayed_as == one.id


def test_a_cancelled_job_retried_twice_makes_one_job(store: Store, enqueue: Callable[..., Job]) -> None:
    job = enqueue()
    store.cancel(job.id)
    one, two = store.retry(job.id), store.retry(job.id)
    assert (one.id, one.created, two.created) == (two.id, True, False)


def test_a_hundred_replays_at_once_make_one_job(path: Path, clock: FakeClock) -> None:
    store = SQLiteStore(path, durability="process", clock=clock)
    job = store.enqueue(NewJob(name="a", payload=b"{}"))
    desk = Desk(store, clock)
    (claimed,) = desk.claim()
    desk.commit(failed(claimed, clock.now()))
    desk.close()
    made = list[int]()

    def click() -> None:
        made.extend(store.replay(job.id).id for _ in range(25))
        store.close()

    threads = [threading.Thread(target=click) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(made) == 100
    assert len(set(made)) == 1
    store.close()


def test_a_replay_that_fails_is_a_dead_letter_of_its_own(
    store: Store, desk: Desk, fail: Callable[..., int], clock: FakeClock
) -> None:
    old_id = fail()
    new = store.replay(old_id)
    (claimed,) = desk.claim()
    desk.commit(failed(claimed, clock.now()))
    assert ids(store) == [new.id]
    assert store.replay(new.id).retried_from == new.id


def test_count_is_of_those_not_replayed_of_a_queue_or_of_all(store: Store, fail: Callable[..., int]) -> None:
    first, _ = fail(), fail()
    assert (store.dead_letter_count(), store.dead_letter_count("default"), store.dead_letter_count("x")) == (
        2,
        2,
        0,
    )
    store.replay(first)
    assert (store.dead_letter_count(), store.dead_letter_count("default")) == (1, 1)


def test_purge_by_queue_name_and_age_leaves_the_jobs(
    store: Store, fail: Callable[..., int], clock: FakeClock
) -> None:
    old, mail = fail(), fail("mail")
    clock.advance(3600)
    young = fail()
    hour_ago = clock.now().wall_us - 1800 * 1_000_000
    assert store.purge_dead_letters(DeadLetterFilter(is_replayed=None, queue="nowhere")) == 0
    assert store.purge_dead_letters(DeadLetterFilter(is_replayed=None, name="mail")) == 1
    assert store.purge_dead_letters(DeadLetterFilter(is_replayed=None, failed_before_us=hour_ago)) == 1
    assert ids(store, ALL) == [young]
    assert {store.get(each).state for each in (old, mail, young)} == {JobState.FAILED}
    with pytest.raises(DeadLetterNotFoundError):
        store.replay(old)
    assert store.retry(old).retried_from == old  # it is still a failed job


@pytest.mark.parametrize("is_replayed_first", [False, True])
def test_a_purged_letter_is_nowhere_and_nothing_brings_it_back(
    store: Store, fail: Callable[..., int], clock: FakeClock, is_replayed_first: bool
) -> None:
    job_id, other = fail(), fail()
    if is_replayed_first:
        store.replay(job_id)
    assert store.purge_dead_letters(ALL) == 2
    assert store.purge_dead_letters(ALL) == 0, "a second purge finds none"
    clock.advance(60)
    assert store.retry(job_id).created is not is_replayed_first
    for where in (OPEN, ALL, DeadLetterFilter(is_replayed=True)):
        assert ids(store, where) == []
    assert (store.dead_letter_count(), store.dead_letter_count("default")) == (0, 0)
    for each in (job_id, other):
        with pytest.raises(DeadLetterNotFoundError):
            store.dead_letter(each)
        with pytest.raises(DeadLetterNotFoundError):
            store.replay(each)


def test_retry_of_a_running_or_completed_job_is_refused(
    store: Store, desk: Desk, enqueue: Callable[..., Job]
) -> None:
    job = enqueue()
    desk.claim()
    with pytest.raises(InvalidStateError, match="is running"):
        store.retry(job.id)


@pytest.mark.serial
def test_purging_very_many_takes_only_those_there_were_and_never_holds_a_claim_up(
    path: Path, clock: FakeClock
) -> None:
    store = SQLiteStore(path, durability="process", clock=clock)
    store.check(create=True)
    desk = Desk(store, clock)
    connection = store._sessions.current().connection
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO mpdispatch_dead_letters (job_id, name, queue, failed_at_us) VALUES (?, 'a', 'bulk', 1)",
        ((1_000_000 + each,) for each in range(30_000)),
    )
    connection.execute("COMMIT")
    store.enqueue_many(AlikeJobs(NewJob(name="a", payload=b""), [b"{}"] * 3000))
    longest, claimed, stop = 0.0, 0, threading.Event()

    def purge() -> None:
        assert store.purge_dead_letters(ALL) == 30_000
        store.close()
        stop.set()

    thread = threading.Thread(target=purge)
    thread.start()
    while not stop.is_set():
        began = time.perf_counter()
        # A busy answer comes within 50 ms too; the claim itself follows at the next commit.
        with suppress(StoreBusy):
            claimed += len(desk.claim(4))
        longest = max(longest, time.perf_counter() - began)
    thread.join()
    assert claimed > 0
    assert longest < 0.25, "a few milliseconds by itself; the rest is what a busy machine adds"
    assert store.dead_letter_count() == 0
    desk.close()
    store.close()


@sqlite_only
def test_every_statement_is_used_and_found_by_an_index(store: Store, desk: Desk) -> None:
    connection = store._sessions.current().connection  # type: ignore[attr-defined]

    def plan(statement: str, *values: object) -> str:
        return "; ".join(row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + statement, values))

    assert "mpdispatch_jobs_retried (retried_from=?)" in plan(QUERIES["retried_as"], 1)
    assert "mpdispatch_dead_letters_open" in plan(QUERIES["count_open"], "q")
    odd = DeadLetterFilter(batch_id=3, error="x")
    assert "SEARCH j USING INTEGER PRIMARY KEY" in plan(QUERIES["retriable"], "[1]")
    for where in (OPEN, ALL, DeadLetterFilter(queue="q"), DeadLetterFilter(failed_before_us=1), odd):
        for with_error in (False, True):
            statement, values = dead_letters.page_statement(where, 7, with_error=with_error)
            found = plan(statement, *values)
            assert "TEMP B-TREE FOR ORDER BY" not in found.partition("CORRELATED")[0], (where, found)
            assert "SCAN j" not in found

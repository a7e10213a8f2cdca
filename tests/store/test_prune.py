"""Pruning: what ended long ago goes, with all that is kept of it; nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from mpdispatch import sqlite3
from mpdispatch.clock import SECOND_US
from mpdispatch.errors import JobNotFoundError, StoreBusy, UsageError
from mpdispatch.model import AlikeJobs, Job, JobState, NewJob, Output, Stream
from mpdispatch.store import SQLiteStore
from mpdispatch.store.contract import Store
from mpdispatch.store.filters import DeadLetterFilter, PruneFilter
from mpdispatch.store.values import Pruned, Retention
from tests.clock import FakeClock
from tests.kinds import sqlite_only

from .conftest import Desk, completed, failed

HOUR_S = 3600
HOUR_US = HOUR_S * SECOND_US
NEW = NewJob(name="a", payload=b"{}")
ALL = DeadLetterFilter(is_replayed=None)


@pytest.fixture
def end(desk: Desk, enqueue: Callable[..., Job], clock: FakeClock) -> Callable[..., int]:
    """Enqueues a job and has it end a second later, in this state; gives its id."""

    def make(state: JobState = JobState.COMPLETED, **options: object) -> int:
        job = enqueue(max_retries=0, **options)
        clock.advance(1)
        if state is JobState.CANCELLED:
            desk.store.cancel(job.id)
            return job.id
        claimed = {each.id: each for each in desk.claim()}[job.id]
        desk.commit((completed if state is JobState.COMPLETED else failed)(claimed, clock.now()))
        return job.id

    return make


@pytest.fixture
def file_desk(file_store: SQLiteStore, clock: FakeClock) -> Iterator[Desk]:
    desk = Desk(file_store, clock)
    yield desk
    desk.close()


def is_there(store: Store, job_id: int) -> bool:
    try:
        store.get(job_id)
    except JobNotFoundError:
        return False
    return True


def those_there(store: Store, ids: list[int]) -> list[int]:
    return [each for each in ids if is_there(store, each)]


def before(clock: FakeClock, **more: object) -> PruneFilter:
    return PruneFilter(ended_before_us=clock.now().wall_us, **more)  # type: ignore[arg-type]


def total(pruned: Pruned) -> int:
    return sum(pruned.by_state.values())


def prune_by_age(
    desk: Desk, ended_s: float | None = None, failed_s: float | None = None, limit: int | None = None
) -> int:
    """A whole round of a supervisor. Gives the number of jobs deleted."""
    us = [None if each is None else round(each * SECOND_US) for each in (ended_s, failed_s)]
    while (step := desk.supervisor_store.upkeep.prune(Retention(*us, limit))).has_more:
        continue
    return step.pruned


def test_only_jobs_that_ended_before_are_pruned(
    store: Store, end: Callable[..., int], enqueue: Callable[..., Job], clock: FakeClock
) -> None:
    old, cancelled, waiting = end(), end(JobState.CANCELLED), enqueue(delay_us=HOUR_US * 9).id
    clock.advance(HOUR_S)
    where = before(clock)
    recent = end(JobState.CANCELLED)
    assert store.prune(where, dry_run=True).by_state == {JobState.COMPLETED: 1, JobState.CANCELLED: 1}
    assert is_there(store, old), "it was only asked what would be pruned"
    assert store.prune(where).by_state == {JobState.COMPLETED: 1, JobState.CANCELLED: 1}
    assert store.prune(where) == Pruned({}, 0)
    assert those_there(store, [old, cancelled, waiting, recent]) == [waiting, recent]


def test_a_failed_job_stays_until_its_dead_letter_is_dealt_with(
    store: Store, end: Callable[..., int], clock: FakeClock
) -> None:
    purged, replayed, opened = (end(JobState.FAILED) for _ in range(3))
    clock.advance(HOUR_S)
    young = end(JobState.FAILED)
    where = PruneFilter(ended_before_us=clock.now().wall_us - HOUR_US // 2)
    assert store.prune(where) == Pruned({}, open_failed=3)
    assert store.dead_letter_count() == 4
    store.replay(replayed)
    store.purge_dead_letters(DeadLetterFilter(failed_before_us=clock.now().wall_us - HOUR_US - 2 * SECOND_US))
    assert store.prune(where) == Pruned({JobState.FAILED: 2}, open_failed=1)
    assert those_there(store, [purged, replayed, opened, young]) == [opened, young]
    assert store.prune(PruneFilter(state=JobState.CANCELLED)).open_failed == 0, "those are not asked for"


def test_by_state_and_all_but_the_last_ones(store: Store, end: Callable[..., int], clock: FakeClock) -> None:
    jobs = [end(state, queue=queue) for _ in range(4) for state, queue in KINDS]
    where = PruneFilter(state=JobState.CANCELLED, keep=3)
    assert store.prune(where, dry_run=True).by_state == {JobState.CANCELLED: 5}
    assert store.prune(where).by_state == {JobState.CANCELLED: 5}
    cancelled = [each for each in jobs if is_there(store, each) and store.state_of(each) is JobState.CANCELLED]
    assert cancelled == [each for at, each in enumerate(jobs) if KINDS[at % 4][0] is JobState.CANCELLED][-3:]
    left = those_there(store, jobs)
    store.prune(PruneFilter(keep=5))
    assert those_there(store, jobs) == left[-5:], "over all states and queues"
    store.prune(PruneFilter(keep=2, ended_before_us=clock.now().wall_us - 3 * SECOND_US))
    assert len(those_there(store, jobs)) == 4, "one of them is old, and not among the last two"
    with pytest.raises(UsageError, match="state: must be one of completed, failed, cancelled, not running"):
        PruneFilter(state=JobState.RUNNING)


KINDS = [
    (JobState.COMPLETED, "default"),
    (JobState.CANCELLED, "default"),
    (JobState.COMPLETED, "default"),
    (JobState.CANCELLED, "mail"),
]


@sqlite_only
@pytest.mark.parametrize("keep", [0, 1, 19, 20, 21, 199, 1500, 2999, 3000, 3001])
def test_as_many_stay_as_asked_for_the_last_to_have_ended(
    store: SQLiteStore, enqueue: Callable[..., Job], clock: FakeClock, keep: int
) -> None:
    template = [NewJob(name="a", payload=b"{}", queue=queue) for queue in ("a", "b", "c")]
    ids = store.enqueue_many([template[(at * at // 7) % 3] for at in range(3000)]).ids
    connection = store._sessions.current().connection
    connection.execute(
        "UPDATE mpdispatch_jobs SET state = iif(id % 5, 'completed', 'cancelled'), lane = NULL,"
        " completed_at_us = id * 1000"
    )
    assert total(store.prune(PruneFilter(keep=keep))) == max(3000 - keep, 0)
    found = [row[0] for row in connection.execute("SELECT id FROM mpdispatch_jobs ORDER BY id")]
    assert found == list(ids)[max(3000 - keep, 0) :]


def test_a_supervisor_deletes_what_is_older_than_its_retention(
    desk: Desk, store: Store, end: Callable[..., int], clock: FakeClock
) -> None:
    done, cancelled = end(), end(JobState.CANCELLED)
    failures = [end(JobState.FAILED) for _ in range(3)]
    clock.advance(HOUR_S)
    assert prune_by_age(desk, HOUR_S * 2, 1) == 0, "none is older than two hours, and all letters are open"
    assert prune_by_age(desk, HOUR_S / 2, 1) == 2
    assert those_there(store, [done, cancelled, *failures]) == failures
    store.replay(failures[0])
    store.purge_dead_letters(DeadLetterFilter(failed_before_us=store_time(store, failures[2])))
    clock.advance(60)
    assert prune_by_age(desk, None, None) == 0
    assert prune_by_age(desk, 1, 61) == 0, "its time runs from the moment its letter was replayed or purged"
    assert prune_by_age(desk, None, 59) == 2
    assert those_there(store, failures) == [failures[2]]


def store_time(store: Store, job_id: int) -> int:
    return round(store.dead_letter(job_id).failed_at.timestamp() * SECOND_US)


def test_a_supervisor_keeps_no_more_than_the_limit(
    desk: Desk, store: Store, end: Callable[..., int], clock: FakeClock
) -> None:
    failures = [end(JobState.FAILED) for _ in range(2)]
    ended = [end() for _ in range(6)]
    assert prune_by_age(desk, limit=8) == prune_by_age(desk, limit=6) == 0, "open dead letters do not count"
    assert prune_by_age(desk, limit=4) == 2
    store.purge_dead_letters(ALL)  # so they are the last ones
    assert prune_by_age(desk, limit=4) == 2
    assert those_there(store, [*failures, *ended]) == [*failures, *ended[-2:]]
    assert prune_by_age(desk, ended_s=10**9, limit=1) == 3, "either reason is enough"


def test_a_round_that_the_store_was_busy_for_goes_on_where_it_was(
    file_store: SQLiteStore, file_desk: Desk, path: object, clock: FakeClock
) -> None:
    for _ in range(300):
        file_store.cancel(file_store.enqueue(NEW).id)
    clock.advance(1)
    other = sqlite3.connect(str(path), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    upkeep, retention = file_desk.supervisor_store.upkeep, Retention(0, None, None)

    def prune_until_it_writes() -> None:
        while True:  # on a busy machine the first steps may only read
            upkeep.prune(retention)

    for _ in range(3):
        with pytest.raises(StoreBusy):
            prune_until_it_writes()
    other.execute("COMMIT")
    other.close()
    assert prune_by_age(file_desk, 0) == 300


def test_open_dead_letters_and_open_firings_hide_nothing(
    file_desk: Desk, file_store: SQLiteStore, clock: FakeClock
) -> None:
    """However many cannot be deleted, what ended later is found in a few steps."""
    connection = file_store._sessions.current().connection
    ids = file_store.enqueue_many(AlikeJobs(NewJob(name="a", payload=b""), [b"{}"] * 5000)).ids
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(
        "UPDATE mpdispatch_jobs SET lane = NULL, completed_at_us = id, state = iif(id <= 3000, 'failed', 'completed')"
    )
    connection.execute(
        "INSERT INTO mpdispatch_dead_letters (job_id, name, queue, failed_at_us)"
        " SELECT id, name, queue, 1 FROM mpdispatch_jobs WHERE state = 'failed'"
    )
    connection.execute(
        "INSERT INTO mpdispatch_crons (id, name, spec, payload, origin, app, created_at_us, enabled_at_us,"
        " decided_until_us) VALUES (1, '', '', '', '', '', 1, 1, 1)"
    )
    connection.execute(
        "INSERT INTO mpdispatch_cron_slots (cron_id, slot_us, fired_at_us, job_id, is_open)"
        " SELECT 1, id, id, id, 1 FROM mpdispatch_jobs WHERE state = 'completed'"
    )
    connection.execute("COMMIT")
    last = file_store.enqueue(NEW).id
    file_store.cancel(last)
    clock.advance(1)
    steps = 1
    while (step := file_desk.supervisor_store.upkeep.prune(Retention(0, 0, None))).has_more:
        steps += 1
    assert (step.pruned, is_there(file_store, last), is_there(file_store, ids[-1])) == (1, False, True)
    assert steps < 12, "2000 open firings are a few reads, 3000 open dead letters none"
    connection.execute("UPDATE mpdispatch_cron_slots SET is_open = NULL")
    assert prune_by_age(file_desk, 0, 0) == 2000


def test_old_slots_and_skips_of_entries_go_but_for_the_last_hundred(
    file_desk: Desk, file_store: SQLiteStore, clock: FakeClock
) -> None:
    connection = file_store._sessions.current().connection
    now_us = clock.now().wall_us
    connection.execute("BEGIN IMMEDIATE")
    for entry, decided_us in ((1, now_us), (2, 950), (3, None)):  # 3: deleted
        if decided_us is not None:
            connection.execute(
                "INSERT INTO mpdispatch_crons (id, name, spec, payload, origin, app, created_at_us, enabled_at_us,"
                " decided_until_us) VALUES (?, ?, '', '', '', '', 1, 1, ?)",
                (entry, str(entry), decided_us),
            )
        for slot in range(1000):
            is_open, fired_us = (1 if slot == 7 else None), (now_us if slot == 8 else slot)
            connection.execute(
                "INSERT INTO mpdispatch_cron_slots VALUES (?, ?, ?, 1, ?)", (entry, slot, fired_us, is_open)
            )
            connection.execute(
                "INSERT INTO mpdispatch_cron_skips (cron_id, first_us, last_us, reason, at_us)"
                " VALUES (?, ?, ?, 'late', ?)",
                (entry, slot, slot, fired_us),
            )
    connection.execute("COMMIT")
    prune_by_age(file_desk, HOUR_S)

    def left(table: str, entry: int) -> list[int]:
        column = "slot_us" if table == "slots" else "first_us"
        found = connection.execute(
            f"SELECT {column} FROM mpdispatch_cron_{table} WHERE cron_id = ? ORDER BY 1",
            (entry,),
        )
        return [row[0] for row in found]

    assert left("slots", 1) == [7, 8, *range(900, 1000)]
    assert left("skips", 1) == [8, *range(900, 1000)]
    assert (left("slots", 3), left("skips", 3)) == ([7, 8], [8])
    connection.execute("UPDATE mpdispatch_crons SET decided_until_us = 5 WHERE id = 2")
    for slot in range(5, 0, -1):
        connection.execute("INSERT INTO mpdispatch_cron_slots VALUES (2, ?, 1, 1, NULL)", (slot,))
    prune_by_age(file_desk, HOUR_S)
    assert left("slots", 2) == [7, 8, *range(900, 1000)]


def test_nothing_is_kept_of_a_pruned_job(
    file_store: SQLiteStore, file_desk: Desk, clock: FakeClock, path: object
) -> None:
    big = b'{"x":"' + b"y" * 5000 + b'"}'
    ids = [file_store.enqueue(NewJob(name="big", payload=big, max_retries=0)).id for _ in range(2)]
    one, two = file_desk.claim()
    outputs = [Output(job_id=each, starts=1, stream=Stream.LOG, text="a", written=1) for each in ids]
    file_desk.commit(completed(one, clock.now(), result=big), failed(two, clock.now()), outputs=outputs)
    file_store.purge_dead_letters(ALL)
    clock.advance(HOUR_S)
    assert prune_by_age(file_desk, 1, 1) == 2
    connection = sqlite3.connect(str(path))
    for table in ("jobs", "payloads", "results", "attempt_rows", "outputs", "dead_letters"):
        assert connection.execute(f"SELECT count(*) FROM mpdispatch_{table}").fetchone() == (0,), table
    connection.close()


@pytest.mark.parametrize("how", ["enqueue", "enqueue_many", "retry", "key"])
def test_an_id_is_never_used_twice_pruned_or_not(
    store: Store, enqueue: Callable[..., Job], clock: FakeClock, how: str
) -> None:
    older, middle, newest = (enqueue() for _ in range(3))
    # The newest goes; then an older one, which must not be remembered in its database.
    for job in (newest, older):
        store.cancel(job.id)
        clock.advance(HOUR_S)
        assert total(store.prune(before(clock))) == 1
    new = NewJob(name="a", payload=b"{}")
    match how:
        case "enqueue":
            made = store.enqueue(new).id
        case "key":
            made = enqueue(idempotency_key="k").id
            assert enqueue(idempotency_key="k").id == made
        case "enqueue_many":
            made = store.enqueue_many(AlikeJobs(new, [b"{}"] * 3)).ids[0]
        case _:
            store.cancel(middle.id)
            made = store.retry(middle.id).id
    assert made == newest.id + 1

"""A store with something in each of its tables. Helper of tests."""

from __future__ import annotations

from mpdispatch.clock import SECOND_US
from mpdispatch.model import (
    CronDecision,
    CronSpec,
    ErrorInfo,
    Firing,
    JobState,
    NewBatch,
    NewCron,
    NewJob,
    Output,
    SkippedSlots,
    Stream,
)
from mpdispatch.store.contract import Store
from mpdispatch.store.filters import DeadLetterFilter, PruneFilter
from tests.clock import FakeClock

from .conftest import Desk, completed, failed, retrying

BIG = b'{"text":"' + b"x" * 9000 + b'"}'
HOUR_US = 3600 * SECOND_US


def new(name: str = "render", payload: bytes = b'{"path":"\xc3\xa4.pdf"}', **options: object) -> NewJob:
    return NewJob(name=name, payload=payload, **options)  # type: ignore[arg-type]


def furnish(store: Store, clock: FakeClock) -> None:
    """Put rows into all tables of an empty store. Afterwards no job is running, and no supervisor registered."""
    desk = Desk(store, clock)
    _jobs(store, desk, clock)
    _batches(store, desk, clock)
    _crons(store, desk, clock)
    store.set_paused("slow", True)
    last = store.enqueue(new("gone"))
    store.cancel(last.id)
    clock.advance(10)
    before_us = clock.now().wall_us
    kept = store.prune(PruneFilter(state=JobState.CANCELLED, ended_before_us=before_us))
    assert kept.by_state, "the highest id is free"
    desk.supervisor_store.unregister(desk.owner)
    desk.close()
    standing = store.transfer.standing() if store.transfer is not None else None
    assert standing is not None
    assert all(standing.rows.values()), standing.rows
    assert not standing.running


def _jobs(store: Store, desk: Desk, clock: FakeClock) -> None:
    for payload, result in ((b"{}", b"null"), (BIG, b"1"), (b"{}", BIG)):
        store.enqueue(new(payload=payload, idempotency_key=f"k{len(result)}", trace_context='{"a":"b"}'))
        (job,) = desk.claim()
        clock.advance(1)
        desk.commit(
            completed(job, clock.now(), result=result),
            outputs=[Output(job_id=job.id, starts=job.starts, stream=Stream.STDOUT, text="a\n", written=2)],
        )
    for each in range(3):  # one is replayed, one purged, one stays
        store.enqueue(new(f"fail{each}", max_retries=0))
        (job,) = desk.claim()
        desk.commit(failed(job, clock.now(), error=ErrorInfo(type="E", message="no", traceback="x" * 3000)))
    store.replay(job.id)
    store.purge_dead_letters(DeadLetterFilter(name="fail1"))
    for job in desk.claim():
        desk.commit(retrying(job, clock.now(), in_s=60, error=ErrorInfo(type="E", message="again")))
    store.enqueue(new("later", delay_us=HOUR_US, expires_us=2 * HOUR_US, timeout_us=SECOND_US, priority=-3))
    store.enqueue(new("slow", queue="slow"))
    parent = store.enqueue(new("parent", queue="slow"))
    store.enqueue(new("child", after=(parent.id,), on_parent_failure="run"))
    store.retry(store.cancel(store.enqueue(new("twice", queue="slow")).id).id)


def _batches(store: Store, desk: Desk, clock: FakeClock) -> None:
    callback = new("report", b"{}", queue="slow")
    made = NewBatch(name="thumbnails", callbacks={"on_success": callback}, max_fail_share=0.25, key="t")
    store.enqueue_many([new("member"), new("member", queue="slow")], batch=made)
    for job in desk.claim():
        desk.commit(completed(job, clock.now()))
    store.batches.open(NewBatch(name="open", max_fails=3))


def _crons(store: Store, desk: Desk, clock: FakeClock) -> None:
    now_us = clock.now().wall_us
    for name in ("sweep", "nightly"):
        spec = CronSpec(name=name, schedule="@hourly", tz="Europe/Berlin", job=new(queue="slow", payload=BIG))
        (entry,) = store.crons.add(
            NewCron(spec=spec, origin="user", app="", decided_until_us=now_us, next_slot_us=now_us + HOUR_US)
        )
        decision = CronDecision(
            cron_id=entry.id,
            revision=entry.revision,
            fires=[Firing(now_us + HOUR_US, now_us)],
            skips=[SkippedSlots(now_us + 2 * HOUR_US, now_us + 3 * HOUR_US, "missed", now_us)],
            decided_until_us=now_us + 3 * HOUR_US,
            next_slot_us=now_us + 4 * HOUR_US,
        )
        desk.supervisor_store.crons.decide(decision)

"""Batches in the hands of people, against a real store: what becomes a member, what is refused, what is said.

Where members have to end, they are ended by cancelling. `tests/whole/test_batches.py` has supervisors.
"""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, assert_type

import pytest

from mpdispatch import (
    Batch,
    BatchClosedError,
    BatchError,
    BatchInfo,
    BatchNotFoundError,
    BatchTimeoutError,
    Dispatcher,
    Engine,
    Job,
    JobCancelledError,
    JobState,
    PayloadError,
    SQLiteStore,
    StoreBusy,
    UnknownJobError,
    UsageError,
)
from mpdispatch.engine.batches import block as batch_block
from mpdispatch.engine.client import JobClient
from mpdispatch.hooks import Extension, JobEnqueued
from mpdispatch.host.wake import bring_wake_ups
from mpdispatch.store.sql.batches import SQLBatches
from mpdispatch.store.sqlite.wal import Log


def render(path: str, dpi: int = 300) -> str:
    return f"{path}@{dpi}"


def report(batch: int) -> int:
    return batch


def both(batch: int, to: str = "me") -> None: ...


def nothing() -> None: ...


def two(batch: int, to: str) -> None: ...


def texted(batch: str) -> None: ...


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine.open(tmp_path / "jobs.db")
    for function in (render, report, both, nothing, two, texted):
        made.job(function)
    yield made
    made.store.close()


def paths(engine: Engine, batch: Batch) -> list[str]:
    """What its members are given, in order of their ids."""
    return [engine.get_job(job_id).payload["path"] for job_id in engine.batches.get(batch.id)]


# ---------------------------------------------------------------- what becomes a member


def test_whatever_is_enqueued_inside_is_a_member_and_nothing_else(engine: Engine) -> None:
    handle = engine.registry.get("render").name
    before = engine.enqueue("render", path="before")
    with engine.batch("thumbnails") as batch:
        assert (batch.total, batch.is_open) == (0, True)
        one = engine.enqueue(handle, "a")
        two = engine.options(priority=4).enqueue(handle, path="b")
        many = engine.enqueue_many(handle, [{"path": "c"}, {"path": "d"}])
        assert (batch.total, batch.is_open) == (4, True)
    after = engine.enqueue("render", path="after")
    assert [before.batch_id, after.batch_id] == [None, None]
    assert {one.batch_id, two.batch_id, many.id} == {batch.id}
    assert list(batch) == [one.id, two.id, *many]
    assert paths(engine, batch) == ["a", "b", "c", "d"]
    assert (batch.is_open, batch.total, batch.count, len(batch), len(many)) == (False, 4, 4, 4, 2)
    assert (batch.counts["pending"], batch.counts[JobState.FAILED]) == (4, 0)
    assert (batch.progress, batch.rate, batch.eta, batch.started_at, batch.ended_at) == (
        0,
        None,
        None,
        None,
        None,
    )


def test_of_nested_batches_the_inner_one_counts(engine: Engine) -> None:
    with engine.batch("outer") as outer:
        engine.enqueue("render", path="a")
        with engine.batch("inner") as inner:
            engine.enqueue("render", path="b")
        engine.enqueue("render", path="c")
    assert (paths(engine, outer), paths(engine, inner)) == (["a", "c"], ["b"])


def test_jobs_of_another_engine_are_no_members(engine: Engine, tmp_path: Path) -> None:
    other = Engine.open(tmp_path / "other.db")
    other.job(render)
    with engine.batch("mine") as mine, other.batch("theirs") as theirs:
        assert engine.enqueue("render", path="a").batch_id == mine.id
        assert other.enqueue("render", path="b").batch_id == theirs.id
    with engine.batch("mine again"):
        assert other.enqueue("render", path="c").batch_id is None
    other.store.close()


def test_a_thread_takes_no_part_unless_it_is_given_the_context(engine: Engine) -> None:
    made: dict[str, int | None] = {}

    def enqueue(who: str) -> None:
        made[who] = engine.enqueue("render", path=who).batch_id

    with engine.batch("threads") as batch:
        copied = contextvars.copy_context()
        threads = [
            threading.Thread(target=enqueue, args=("plain",)),
            threading.Thread(target=copied.run, args=(enqueue, "copied")),
            threading.Thread(target=lambda: made.update(added=batch.add("render", "added").batch_id)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert made == {"plain": None, "copied": batch.id, "added": batch.id}


def test_async_code_makes_members_too(engine: Engine) -> None:
    late: list[int | None] = []

    async def later(begin: asyncio.Event) -> None:
        await begin.wait()
        late.append((await engine.enqueue_async("render", path="late")).batch_id)

    async def main() -> tuple[Batch, Batch, int | None]:
        begin = asyncio.Event()
        async with engine.batch("async") as batch:
            task = asyncio.create_task(later(begin))
            await asyncio.gather(*(engine.enqueue_async("render", path=f"{n}") for n in range(20)))
            many = await engine.enqueue_many_async("render", ({"path": f"m{n}"} for n in range(5)))
            async with engine.batch("inner", open=True) as inner:
                inside = (await engine.enqueue_async("render", path="inner")).batch_id
        begin.set()
        await task
        assert many.id == batch.id
        return batch, inner, inside

    batch, inner, inside = asyncio.run(main())
    assert (batch.total, batch.is_open) == (25, False)
    assert (inside, inner.total, inner.is_open) == (inner.id, 1, True)
    assert late == [None]  # the block is over; a task that outlives it must not meet a closed batch


def test_an_error_in_the_block_leaves_the_batch_open_and_says_so(engine: Engine) -> None:
    def enqueue_some() -> None:
        with engine.batch("half", on_end="report"):
            engine.enqueue("render", path="a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        enqueue_some()
    (note,) = caught.value.__notes__
    (info,) = engine.batches.list(ended=False).items
    assert f"batch {info.id} (half) has 1 job; batch {info.id} is left open" in note
    assert "close" in note
    assert "cancel" in note
    assert engine.enqueue("render", path="b").batch_id is None
    batch = engine.batches.get(info.id)
    assert batch.add("render", "c").batch_id == batch.id
    assert batch.close().is_open is False


def test_async_cancellation_leaves_the_batch_open_too(engine: Engine) -> None:
    async def main() -> None:
        async with engine.batch("cut short"):
            await engine.enqueue_async("render", path="a")
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(30)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    (info,) = engine.batches.list().items
    assert (info.is_open, info.total) == (True, 1)


def test_a_batch_that_is_cancelled_inside_its_block_is_closed_and_ends(engine: Engine) -> None:
    def enqueue_some() -> None:
        with engine.batch("c", on_end="report") as b:
            engine.enqueue("render", path="a")
            engine.store.batches.cancel(b.id)  # as a supervisor does after too many failures
            engine.enqueue("render", path="b")

    with pytest.raises(BatchClosedError, match="was cancelled") as caught:
        enqueue_some()
    (info,) = engine.batches.list(ended=True).items
    assert caught.value.__notes__ == [f"batch {info.id} (c) has 1 job, and was cancelled"]
    assert (info.is_open, info.counts["cancelled"]) == (False, 1)  # type: ignore[index]
    assert info.callbacks["on_end"].job_id is not None


@pytest.mark.parametrize("is_error", [False, True])
def test_members_reach_the_disk_together_and_at_the_latest_with_the_end_of_the_block(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_error: bool
) -> None:
    seen, flush = list[int](), Log.flush

    def counted(log: Log) -> None:
        with closing(sqlite3.connect(tmp_path / "jobs.db")) as other:
            seen.append(other.execute("SELECT count(*) FROM mpdispatch_jobs").fetchone()[0])
        flush(log)

    monkeypatch.setattr(Log, "flush", counted)
    monkeypatch.setattr(batch_block, "SYNCED_EVERY", 100)
    with suppress(ZeroDivisionError), engine.batch("x", open=True) as batch:
        for number in range(250):
            engine.enqueue("render", path=f"{number}")
        assert 1 / (not is_error)
    assert seen == [100, 200, 250]
    batch.add("render", "one more")
    assert seen[-1] == 251


def test_a_batch_made_by_one_process_is_added_to_by_another(engine: Engine, tmp_path: Path) -> None:
    with engine.batch("open", open=True) as batch:
        engine.enqueue("render", path="a")
    other = Engine.open(tmp_path / "jobs.db")
    rendering = other.job(render)
    same = other.batches.get(batch.id)
    assert same.add("render", path="b").batch_id == batch.id
    typed = assert_type(same.add(rendering.options(priority=7), "c"), Job[str])
    assert typed.priority == 7
    added = same.add_many("render", [{"path": "d"}, {"path": "e"}])
    assert (added.id, len(added), batch.total, batch.name, same.name) == (batch.id, 2, 5, "open", "open")
    assert (same.close().is_open, same.close().is_open) == (False, False)
    with pytest.raises(BatchClosedError, match=f"batch {batch.id} is closed"):
        batch.add("render", "f")
    other.store.close()


def test_whoever_adds_while_another_closes_is_in_it_or_is_told(engine: Engine) -> None:
    with engine.batch("raced", open=True) as batch:
        pass
    added = list[int]()

    def add_until_closed() -> None:
        with suppress(BatchClosedError):
            while True:
                added.append(batch.add("render", "a").id)
                added.extend(batch.add_many("render", [{"path": "b"}] * 3))

    threads = [threading.Thread(target=add_until_closed) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(added) < 40:
        time.sleep(0.001)
    batch.close()
    for thread in threads:
        thread.join()
    assert sorted(added) == list(batch)
    assert batch.total == len(added)


def test_an_item_that_does_not_fit_leaves_an_open_batch_open(engine: Engine) -> None:
    with engine.batch("open", open=True) as batch, pytest.raises(BatchError, match=r"\[1\]"):
        batch.add_many("render", [{"path": "a"}, {"path": 5}])
    assert (batch.total, batch.is_open) == (0, True)
    with pytest.raises(PayloadError, match="path"):
        batch.add("render", 5)
    with pytest.raises(UnknownJobError):
        batch.add("rendre", "a")
    with pytest.raises(UsageError, match="job: must be a handler"):
        batch.add(render, "a")  # type: ignore[arg-type]


def test_a_job_that_is_there_already_stays_where_it_is(engine: Engine) -> None:
    keyed = engine.options(idempotency_key="k")
    older = keyed.enqueue("render", path="a")
    with engine.batch("x") as batch:
        found = keyed.enqueue("render", path="a")
        one = engine.options(idempotency_key="other").enqueue("render", path="b")
        engine.options(idempotency_key="other").enqueue("render", path="b")
    assert (found.id, found.created, found.batch_id) == (older.id, False, None)
    assert list(batch) == [one.id]


def test_a_batch_that_cannot_be_closed_says_what_to_do(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(batch: Batch) -> None:
        raise StoreBusy("jobs.db")

    def enqueue_some() -> None:
        with engine.batch("x"):
            engine.enqueue("render", path="a")

    monkeypatch.setattr(Batch, "close", cannot)
    with pytest.raises(StoreBusy) as caught:
        enqueue_some()
    assert "batch 1 is left open: add the rest and close it" in caught.value.__notes__[0]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"on_end": "nothing"}, "on_end: handler 'nothing' must take the id of the batch, as `batch: int`"),
        (
            {"on_success": "two"},
            "on_success: handler 'two' .*no other argument without a default: to: is missing",
        ),
        ({"on_failure": "texted"}, "on_failure: handler 'texted' must take the id .*batch: Expected `str`"),
        ({"on_end": "rendre"}, "on_end: no handler 'rendre' in this engine; did you mean 'render'"),
        ({"on_end": report}, "on_end: must be a handler or the name of one"),
        ({"max_fails": -1}, "max_fails: must be a whole number of jobs from 0, or a share .* not -1"),
        ({"max_fails": 1.0}, "max_fails: .* not 1.0"),
        ({"max_fails": 0.0}, "max_fails: .* not 0.0"),
        ({"max_fails": True}, "max_fails: .* not True"),
        ({"max_fails": "5%"}, "max_fails: .* not '5%'"),
        ({"max_fails": float("nan")}, "max_fails: .* not nan"),
        ({"name": ""}, "name must not be empty"),
        ({"name": "a\nb"}, "name must have no control characters"),
        ({"name": 7}, "name must be text"),
    ],
)
def test_a_bad_argument_is_named_and_nothing_is_stored(
    engine: Engine, arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        engine.batch(**{"name": "x", **arguments})
    assert engine.store.migrate()[0] == 0  # there is no store yet


def test_callbacks_are_handlers_names_or_bound(engine: Engine) -> None:
    handle = engine.job("reporting")(report)
    bound = engine.job("late")(both).options(queue="late", priority=3)
    with engine.batch("x", on_success="report", on_failure=bound, on_end=handle) as batch:
        pass
    info = batch.status()
    assert info.ended_at is not None  # there was nothing to do
    assert {event: each.name for event, each in info.callbacks.items()} == {
        "on_success": "report",
        "on_failure": "late",
        "on_end": "reporting",
    }
    jobs = [info.callbacks[event].job_id for event in ("on_success", "on_end")]
    assert info.callbacks["on_failure"].job_id is None
    for job_id in jobs:
        assert job_id is not None
        assert engine.get_job(job_id).payload == {"batch": batch.id}
        assert engine.get_job(job_id).batch_id is None
    with engine.batch("y", on_failure=bound, open=True) as failing:
        engine.enqueue("render", path="a")
    job_id = failing.cancel().callbacks["on_failure"].job_id
    assert job_id is not None
    job = engine.get_job(job_id)
    assert (job.queue, job.priority, job.payload) == ("late", 3, {"batch": failing.id})
    with pytest.raises(UsageError, match="on_end: a callback takes no option idempotency_key"):
        engine.batch("x", on_end=handle.options(idempotency_key="k"))


def test_a_callback_of_another_engine_is_refused(engine: Engine, tmp_path: Path) -> None:
    other = Engine.open(tmp_path / "other.db")
    bound = other.job(report).options(priority=1)
    with pytest.raises(UsageError, match="on_end: 'report' is a handler of another engine"):
        engine.batch("x", on_end=bound)


def test_a_member_takes_no_connection(engine: Engine, tmp_path: Path) -> None:
    engine.store.migrate()
    connection = sqlite3.connect(tmp_path / "jobs.db")
    with engine.batch("x") as batch:
        with pytest.raises(UsageError, match=f"connection: a member of batch {batch.id} takes none"):
            engine.options(connection=connection).enqueue("render", path="a")
        engine.enqueue("render", path="b")
    assert batch.total == 1
    connection.close()


def test_waiting_inside_its_own_block_is_refused(engine: Engine) -> None:
    with engine.batch("x") as batch:
        for same in (batch, engine.batches.get(batch.id)):
            with pytest.raises(UsageError, match="closed only at the end of its `with`"):
                same.wait()
        with (
            engine.batch("inner") as inner,
            pytest.raises(UsageError, match=f"batch {batch.id} is closed only"),
        ):
            batch.wait()
        assert inner.wait(5).total == 0


def test_a_context_makes_one_batch(engine: Engine) -> None:
    context = engine.batch("x")
    with context:
        pass
    with pytest.raises(UsageError, match=r"call engine\.batch"), context:
        pass


def test_a_store_that_changes_inside_is_refused(engine: Engine, tmp_path: Path) -> None:
    with engine.batch("x") as batch:
        engine.use_store(str(tmp_path / "other.db"))
        with pytest.raises(UsageError, match="since `use_store`"):
            engine.enqueue("render", path="a")
        with pytest.raises(UsageError, match="since `use_store`"):
            engine.enqueue_many("render", [{"path": "a"}])
    assert (batch.total, batch.is_open) == (0, False)  # it stays where it is


def test_what_there_is_not_is_said(engine: Engine) -> None:
    engine.enqueue("render", path="a")
    with pytest.raises(BatchNotFoundError, match="batch 7 not found"):
        engine.batches.get(7)
    for bad in (True, "7", None):
        with pytest.raises(UsageError, match="batch_id: must be a whole number"):
            engine.batches.get(bad)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="limit"):
        engine.batches.list(limit=0)
    with pytest.raises(UsageError, match="cursor"):
        engine.batches.list(cursor="x")
    batch = engine.enqueue_many("render", [{"path": "a"}])
    with pytest.raises(UsageError, match="state: must be one of"):
        batch.jobs(state="done")


# ---------------------------------------------------------------- what is done to it


def test_cancelling_ends_it_and_doing_it_again_changes_nothing(engine: Engine) -> None:
    with engine.batch("x", on_failure="report", on_end="report", open=True) as batch:
        engine.enqueue_many("render", ({"path": f"{n}"} for n in range(50)))
    info = batch.cancel()
    assert (info.is_open, info.counts["cancelled"], info.progress) == (False, 50, 1.0)  # type: ignore[index]
    assert info.ended_at is not None
    assert info.cancelled_at is not None
    callbacks = {event: each.job_id for event, each in info.callbacks.items()}
    assert None not in callbacks.values()
    assert batch.cancel().callbacks == info.callbacks
    assert batch.retry_failed() == 0
    with pytest.raises(BatchClosedError, match="was cancelled"):
        batch.add("render", "late")
    assert batch.wait(1).ended_at == info.ended_at


def test_a_cancelled_member_that_is_retried_hands_over_its_place(engine: Engine) -> None:
    batch = engine.enqueue_many("render", ({"path": f"{n}"} for n in range(5)))
    batch.cancel()
    old = list(batch)[2]
    new = engine.retry(old)
    assert (batch.total, batch.counts["cancelled"], batch.counts["pending"]) == (5, 4, 1)
    assert batch.ended_at is None
    found = engine.batches.get(batch.id)
    assert list(found) == [each for each in batch if each != old] + [new.id]
    assert [each.id for each in found.jobs("pending")] == [new.id]
    assert [each.id for each in found.jobs(JobState.CANCELLED)] == [each for each in batch if each != old]
    assert len(list(found.jobs())) == 5
    with pytest.raises(JobCancelledError):
        next(found.jobs("cancelled")).wait()
    assert old in list(batch)  # what `enqueue_many` gave


def test_members_are_read_by_the_page(engine: Engine) -> None:
    batch = engine.enqueue_many("render", ({"path": f"{n}"} for n in range(2_500)))
    found = engine.batches.get(batch.id)
    assert list(found) == list(batch)
    jobs = found.jobs()
    assert [next(jobs).payload["path"], next(jobs).payload["path"]] == ["0", "1"]
    assert sum(1 for _ in jobs) == 2_498
    assert list(found.results()) == []


def test_lists_are_filtered_and_paged(engine: Engine) -> None:
    ids = [engine.enqueue_many("render", [{"path": f"{n}"}]).id for n in range(5)]
    with engine.batch("named"):
        pass
    assert [each.name for each in engine.batches.list(ended=True).items] == ["named"]
    assert [each.id for each in engine.batches.list(ended=False).items] == ids[::-1]
    assert [each.id for each in engine.batches.list(name="render").items] == ids[::-1]
    page = engine.batches.list(name="render", limit=3)
    assert [each.id for each in page.items] == ids[:1:-1]
    rest = engine.batches.list(name="render", limit=3, cursor=page.next_cursor)
    assert ([each.id for each in rest.items], rest.next_cursor) == (ids[1::-1], None)


def test_a_wait_that_is_too_short_says_what_is_missing(engine: Engine) -> None:
    batch = engine.enqueue_many("render", [{"path": "a"}] * 3)
    batch.store.cancel(next(iter(batch)))
    with pytest.raises(
        BatchTimeoutError, match=r"0.05 s: 1 of 3 jobs have; no supervisor is running"
    ) as caught:
        batch.wait(0.05)
    assert (caught.value.batch_id, caught.value.done, caught.value.total) == (batch.id, 1, 3)
    with engine.batch("open", open=True) as opened:
        pass
    with pytest.raises(BatchTimeoutError, match="0 of 0 jobs have; it is open"):
        asyncio.run(opened.wait_async(timeout="50ms"))


@pytest.mark.parametrize("is_async", [False, True])
def test_a_wait_is_woken_instead_of_looking_all_the_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, is_async: bool
) -> None:
    batch = engine.enqueue_many("render", [{"path": "a"}] * 3)
    looks, get = list[float](), SQLBatches.get

    def counted(batches: SQLBatches, batch_id: int) -> BatchInfo:
        looks.append(time.monotonic())
        return get(batches, batch_id)

    def wait(timeout: float) -> BatchInfo:
        return asyncio.run(batch.wait_async(timeout)) if is_async else batch.wait(timeout)

    monkeypatch.setattr(SQLBatches, "get", counted)
    with pytest.raises(BatchTimeoutError):
        wait(1.5)
    assert len(looks) <= 6
    ended_s = list[float]()

    def cancel_soon() -> None:
        time.sleep(0.3)
        store = SQLiteStore(engine.store.location)
        bring_wake_ups(store)
        for job_id in batch:
            store.cancel(job_id)
        ended_s.append(time.monotonic())
        store.close()

    thread = threading.Thread(target=cancel_soon)
    thread.start()
    assert wait(30).counts["cancelled"] == 3  # type: ignore[index]
    returned_s = time.monotonic()
    thread.join()
    assert returned_s - ended_s[0] < 0.7  # without being woken it looks once a second


def test_a_client_without_handlers_does_all_but_add(engine: Engine, tmp_path: Path) -> None:
    made = engine.enqueue_many("render", [{"path": "a"}])
    store = SQLiteStore(tmp_path / "jobs.db")
    batch = JobClient.of(store).batches.get(made.id)
    with pytest.raises(UsageError, match="add: needs an engine"):
        batch.add("render", "b")
    assert batch.cancel().counts["cancelled"] == 1  # type: ignore[index]
    store.close()


def test_an_empty_batch_has_an_id_and_has_ended(engine: Engine) -> None:
    batch = engine.enqueue_many("render", [])
    assert engine.batches.get(batch.id).wait(1).total == 0
    assert (len(batch), list(batch), batch.progress, batch.eta) == (0, [], 1.0, 0.0)


def test_hooks_are_told_of_members(tmp_path: Path) -> None:
    told = list[JobEnqueued]()

    class Listener(Extension):
        def on_job_enqueued(self, event: JobEnqueued) -> None:
            told.append(event)

    engine = Engine.build(Dispatcher(SQLiteStore(tmp_path / "jobs.db")), extensions=[Listener()])
    engine.job(render)
    engine.job(report)
    with engine.batch("x") as batch:
        engine.enqueue("render", path="a")
        engine.enqueue_many("render", [{"path": "b"}])
    with engine.batch("empty", on_end="report") as empty:
        pass
    empty.close()
    with engine.batch("cancelled", on_failure="report") as cancelled:
        engine.enqueue("render", path="c")
        cancelled.cancel()
    assert engine.hooks.queue().drain(10)
    members = [(job_id, batch.id) for job_id in batch]
    callback, failure = empty.status().callbacks["on_end"], cancelled.status().callbacks["on_failure"]
    last = [(callback.job_id, None), (*cancelled, cancelled.id), (failure.job_id, None)]
    assert [(each.job_id, each.batch_id) for each in told] == [*members, *last]


def test_a_hundred_thousand_items_take_little_memory(engine: Engine) -> None:
    engine.enqueue_many("render", ({"path": f"{n}"} for n in range(6_000)))  # all is loaded
    tracemalloc.start()
    with engine.batch("large", open=True) as batch:
        engine.enqueue_many("render", ({"path": f"{n}"} for n in range(100_000)))
        batch.add_many("render", ({"path": f"{n}"} for n in range(10_000)))
    found = sum(1 for _ in engine.batches.get(batch.id))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (batch.total, found) == (110_000, 110_000)
    assert peak < 8_000_000

"""`engine.map` with a supervisor of the test's own: results at their places, bounded ahead, gone on with by name."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mpdispatch import (
    Engine,
    JobCancelledError,
    JobFailedError,
    JobState,
    PayloadError,
    StoreBusy,
    UnknownJobError,
    UsageError,
)
from mpdispatch.engine import JobHandle
from mpdispatch.engine.maps.places import KEY
from mpdispatch.model import Cause, ClaimedJob, Transition
from mpdispatch.store.contract import Store
from mpdispatch.store.supervisor_contract import SupervisorStore
from tests.clock import FakeClock
from tests.store.conftest import Desk, completed, ended, failed
from tests.whole.harness import until


def registered(store: Store) -> Desk | None:
    with contextlib.suppress(StoreBusy):
        return Desk(store, FakeClock())
    return None


class Workers(threading.Thread):
    """A supervisor that runs what it claims here: 'boom' fails, 'never' goes on, anything else gives its double."""

    def __init__(self, location: str) -> None:
        super().__init__(daemon=True)
        self._location, self._off = location, threading.Event()
        self.ran = list[Any]()
        self.most_claimed = 800
        self.may_run = threading.Event()
        self.may_run.set()
        self.start()

    def run(self) -> None:
        store = Engine.open(self._location).store
        store.check(create=True)
        desk = until(lambda: registered(store), "it is registered")
        outcomes = list[Transition]()
        while not self._off.wait(0.001):
            with contextlib.suppress(StoreBusy):  # it tries again
                desk.commit(*outcomes)
                outcomes = []
                if self.may_run.is_set():
                    for job in desk.claim(slots=self.most_claimed):
                        outcomes += self._outcome(desk, job)
        desk.close()
        store.close_all()

    def _outcome(self, desk: Desk, job: ClaimedJob) -> list[Transition]:
        x = msgspec.json.decode(job.payload)["x"]
        self.ran.append(x)
        now = desk.clock.now()
        if x == "never":
            return []
        return [failed(job, now) if x == "boom" else completed(job, now, msgspec.json.encode(x * 2))]

    def stop(self) -> None:
        self._off.set()
        self.join()


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    made = Engine.open(tmp_path / "jobs.db")
    # The supervisor of the test is a thread, and of no process that could be seen to live.
    monkeypatch.setattr(Engine, "has_supervisor", lambda _: True)
    yield made
    made.store.close_all()


@pytest.fixture
def workers(engine: Engine) -> Iterator[Workers]:
    found = Workers(engine.store.location)
    yield found
    found.stop()


@pytest.fixture
def double(engine: Engine) -> JobHandle[[Any], Any]:
    @engine.job
    def double(x: Any, y: Any = None) -> Any: ...

    return double


def test_results_come_in_the_order_of_the_items(
    engine: Engine, workers: Workers, double: JobHandle[[Any], Any]
) -> None:
    assert list(engine.map(double, range(2500))) == [2 * x for x in range(2500)]
    assert list(engine.map("double", ["a", "b"], range(5))) == ["aa", "bb"], "the shortest iterable decides"
    assert list(engine.map(double.options(priority=3), [])) == []
    assert sorted(engine.map(double, range(500), ordered=False)) == [2 * x for x in range(500)]
    assert workers.ran[:2500] == list(range(2500))


def test_unordered_results_come_as_jobs_end(
    engine: Engine, workers: Workers, double: JobHandle[[Any], Any]
) -> None:
    found = engine.map(double, ["never", 1, 2], ordered=False)
    assert sorted([next(found), next(found)]) == [2, 4]
    ordered = engine.map(double, ["never", 1, 2])

    def wait() -> None:
        with pytest.raises(JobCancelledError):
            next(ordered)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    until(lambda: workers.ran.count(2) == 2, "all have run")
    waiting.join(0.1)
    assert waiting.is_alive(), "the first one has not ended"
    for batch in (found.batch_id, ordered.batch_id):
        assert batch is not None
        engine.store.batches.cancel(batch)
    end_running(engine, JobState.CANCELLED)
    waiting.join(10)
    assert not waiting.is_alive()
    assert list(ordered) == [2, 4]
    with pytest.raises(JobCancelledError):
        next(found)


def end_running(engine: Engine, state: JobState) -> None:
    store = Engine.open(engine.store.location).store
    desk = store.supervisor_store()
    for owner in store.supervisors():
        jobs = desk.jobs_of(owner.id)
        outcomes = [ended(job, state, Cause.CANCELLED, FakeClock().now()) for job in jobs]
        until(lambda owner=owner, outcomes=outcomes: committed(desk, owner.id, outcomes), "they are ended")
    desk.close()
    store.close_all()


def committed(desk: SupervisorStore, owner: int, outcomes: list[Transition]) -> bool:
    with contextlib.suppress(StoreBusy):
        desk.commit(owner, outcomes)
        return True
    return False


@pytest.mark.parametrize("window", [1, 2, 7, 1000])
@pytest.mark.parametrize("ordered", [True, False])
def test_no_more_than_the_window_is_taken_ahead(
    engine: Engine, workers: Workers, double: JobHandle[[Any], Any], window: int, ordered: bool
) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(3000):
            taken += 1
            yield number

    found = engine.map(double, items(), window=window, ordered=ordered)
    assert taken == 0, "nothing happens before it is asked for"
    for given in range(200):
        assert taken <= given + window
        next(found)
    found.close()
    assert next(found, "over") == "over"


def test_large_items_are_held_a_few_at_a_time(
    engine: Engine, workers: Workers, double: JobHandle[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks, add = list[int](), engine.add_alike

    def counted(*args: Any, **options: Any) -> Any:
        chunks.append(sum(map(len, args[2])))
        return add(*args, **options)

    monkeypatch.setattr(engine, "add_alike", counted)
    found = engine.map(double, ("x" * 500_000 for _ in range(60)))
    assert [len(each) for each in found] == [1_000_000] * 60
    assert sum(chunks) > 30_000_000
    assert max(chunks) < 9_000_000


def test_a_failure_is_raised_at_its_place_and_the_next_goes_on(
    engine: Engine, workers: Workers, double: JobHandle[[Any], Any]
) -> None:
    found = engine.map(double, [1, "boom", 3])
    assert next(found) == 2
    with pytest.raises(JobFailedError, match="double"):
        next(found)
    assert next(found) == 6
    with pytest.raises(StopIteration):
        next(found)
    assert list(engine.map(double, [1])) == [2]


def test_what_an_iterable_raises_stands_behind_what_came_before(
    engine: Engine, workers: Workers, double: JobHandle[[Any], Any]
) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("no more paper")

    found = engine.map(double, items())
    assert next(found) == 2
    with pytest.raises(OSError, match="no more paper"):
        next(found)
    with pytest.raises(StopIteration):
        next(found)
    found = engine.map(double, [1, 2, float("nan"), 4])
    assert [next(found), next(found)] == [2, 4]
    with pytest.raises(PayloadError, match="nan cannot be") as refused:
        next(found)
    assert refused.value.__notes__ == ["it is item 2 of the map, counted from 0"]


def batch_of(engine: Engine, batch_id: int | None) -> Any:
    assert batch_id is not None
    return engine.store.batches.get(batch_id)


@pytest.mark.parametrize("how", ["close", "with", "break"])
def test_closed_early_it_cancels_what_is_left(
    engine: Engine, workers: Workers, double: JobHandle[[Any], Any], how: str
) -> None:
    workers.most_claimed = 1
    found = engine.map(double, iter(range(10_000)), window=500)
    next(found)
    batch_id = found.batch_id
    if how == "close":
        found.close()
    elif how == "with":
        with found:
            next(found)
    else:
        for _ in found:
            break
        del found
    until(lambda: batch_of(engine, batch_id).ended_at, "all have ended")
    info = batch_of(engine, batch_id)
    assert (info.is_open, info.name) == (False, "map double")
    assert info.counts[JobState.CANCELLED] > 100
    assert info.total <= 1000


def test_by_its_name_it_goes_on_where_it_stopped(
    engine: Engine, workers: Workers, double: JobHandle[[Any], Any]
) -> None:
    first = engine.map(double, range(3000), name="sweep", window=500)
    assert [next(first) for _ in range(700)] == [2 * x for x in range(700)]
    first.close()
    until(lambda: batch_of(engine, first.batch_id).done >= 700, "they run on without anybody who asks")
    again = engine.map(double, range(3000), name="sweep", window=400)
    assert list(again) == [2 * x for x in range(3000)], "finished results are given again"
    assert workers.ran == list(range(3000)), "and none has run twice"
    assert again.batch_id == first.batch_id
    info = batch_of(engine, first.batch_id)
    assert (info.total, info.is_open, info.counts[JobState.COMPLETED]) == (3000, False, 3000)
    once_more = list(engine.map(double, range(3000), name="sweep"))
    assert once_more == [2 * x for x in range(3000)]
    assert len(workers.ran) == 3000


def test_by_its_name_a_failed_one_is_as_it_stands_now(
    engine: Engine, workers: Workers, double: JobHandle[[Any], Any]
) -> None:
    first = engine.map(double, ["a", "boom", "c"], name="sweep")
    assert next(first) == "aa"
    with pytest.raises(JobFailedError) as error:
        next(first)
    first.close()
    again = engine.map(double, ["a", "boom", "c"], name="sweep")
    assert next(again) == "aa"
    with pytest.raises(JobFailedError):
        next(again)
    assert next(again) == "cc"
    again.close()
    workers.may_run.clear()
    retried = engine.retry(error.value.job.id)
    other = engine.retry(engine.cancel(retried.id).id)
    store = Engine.open(engine.store.location).store
    until(lambda: store.state_of(other.id) is JobState.PENDING, "it is there")
    engine.cancel(other.id)
    third = engine.map(double, ["a", "boom", "c"], name="sweep")
    assert next(third) == "aa"
    with pytest.raises(JobCancelledError) as cancelled:
        next(third)
    assert cancelled.value.job.id == other.id, "the last of those that took its place"
    assert next(third) == "cc"
    assert list(third) == []
    store.close_all()


OTHERS: list[tuple[Callable[[Engine], Iterator[Any]], str]] = [
    (lambda e: e.map("double", [1, 5, 3], name="sweep"), r'its item 1 is {"x":2}, and {"x":5} is passed now'),
    (lambda e: e.map("double", [1, 2], name="sweep"), r"it has 3 items, and only 2 are passed now"),
    (
        lambda e: e.map("double", [1, 2, 3, 4], name="sweep"),
        r"it was complete with 3 items, and more are passed now",
    ),
    (lambda e: e.map("half", [1, 2, 3], name="sweep"), r"it calls 'double', not 'half'"),
]


@pytest.mark.parametrize(("other", "why"), OTHERS, ids=[each[1] for each in OTHERS])
def test_other_items_under_the_same_name_are_refused(
    engine: Engine, workers: Workers, double: JobHandle[[Any], Any], other: Any, why: str
) -> None:
    @engine.job
    def half(x: Any) -> Any: ...

    assert list(engine.map(double, [1, 2, 3], name="sweep")) == [2, 4, 6]
    with pytest.raises(UsageError, match=rf"map 'sweep' \(batch 1\) was begun with other items: {why}"):
        list(other(engine))
    assert len(workers.ran) == 3, "and nothing is enqueued"
    assert list(engine.map(double, [1, 2, 3], name="sweep")) == [2, 4, 6], "which it goes on with"


def test_the_same_arguments_in_another_order_of_keys_are_the_same(
    engine: Engine, workers: Workers, double: JobHandle[[Any], Any]
) -> None:
    workers.may_run.clear()
    first = engine.map(double, [[{"a": 1, "b": 2}], [3]], name="sweep")
    thread = threading.Thread(target=lambda: next(first, None), daemon=True)
    thread.start()
    until(lambda: first.batch_id is not None and batch_of(engine, first.batch_id).total, "it is enqueued")
    workers.may_run.set()
    thread.join(10)
    first.close()
    assert list(engine.map(double, [[{"b": 2, "a": 1}], [3]], name="sweep")) == [
        [{"a": 1, "b": 2}] * 2,
        [3, 3],
    ]


def test_jobs_that_were_pruned_are_told(
    engine: Engine, workers: Workers, double: JobHandle[[Any], Any]
) -> None:
    assert list(engine.map(double, [1, 2, 3], name="sweep")) == [2, 4, 6]
    engine.prune(keep=2)
    assert batch_of(engine, 1).total == 3, "a batch counts the members it had"
    with pytest.raises(UsageError, match="begun with other items"):
        list(engine.map(double, [1, 2, 3], name="sweep"))


def test_two_at_once_under_one_name_are_refused(
    engine: Engine, workers: Workers, double: JobHandle[[Any], Any]
) -> None:
    first = engine.map(double, range(10), name="sweep")
    next(first)
    with pytest.raises(UsageError, match=rf"map 'sweep': process {os.getpid()} is mapping under this name"):
        next(engine.map(double, range(10), name="sweep"))
    assert next(engine.map(double, range(10), name="other")) == 0
    list(first)
    assert list(engine.map(double, range(10), name="sweep")) == [2 * x for x in range(10)]
    side = Path(f"{engine.store.location}-mpd")
    assert [each for each in os.listdir(side) if each.startswith("map.")] == [], "no lock is left behind"
    assert engine.store.batches.with_key(KEY.format("sweep")) is not None


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # a threaded process forks: that is the point
def test_a_child_of_a_fork_leaves_it_alone(
    engine: Engine, workers: Workers, double: JobHandle[[Any], Any]
) -> None:
    found = engine.map(double, range(5000), window=100)
    next(found)
    if (child := os.fork()) == 0:
        found.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert len(list(found)) == 4999


BAD: list[tuple[Callable[[Engine], Any], type[Exception], str]] = [
    (lambda e: e.map("nobody", [1]), UnknownJobError, "no handler 'nobody'"),
    (lambda e: e.map(print, [1]), UsageError, "map: job: must be a handler or the name of one"),
    (lambda e: e.map("double"), UsageError, "give at least one iterable"),
    (lambda e: e.map("double", "abc"), UsageError, "must be an iterable of arguments, not 'abc'"),
    (lambda e: e.map("double", 5), UsageError, "must be an iterable of arguments, not 5"),
    (lambda e: e.map("double", [1], window=0), UsageError, "window: must be a whole number from 1"),
    (lambda e: e.map("double", [1], name=""), UsageError, "name"),
    (lambda e: e.map(e.job(name="k")(len_of).options(idempotency_key="a"), [1]), UsageError, "idempotency_key"),
]


def len_of(x: str) -> int:
    return len(x)


@pytest.mark.parametrize(("call", "error", "text"), BAD, ids=[each[2] for each in BAD])
def test_what_cannot_be_is_said_at_once(
    engine: Engine,
    double: JobHandle[[Any], Any],
    call: Callable[[Engine], Any],
    error: type[Exception],
    text: str,
) -> None:
    with pytest.raises(error, match=text):
        call(engine)


def test_a_handler_of_another_engine_is_refused(engine: Engine, double: JobHandle[[Any], Any]) -> None:
    other = Engine.open(":memory:")
    with pytest.raises(UnknownJobError):
        other.map(double, [1])

    @other.job(name="double")
    def other_double(n: int) -> int:
        return n

    with pytest.raises(UsageError, match="map: job: 'double' is a handler of another engine"):
        other.map(double, [1])

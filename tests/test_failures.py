"""Failures by the many, in a program: grouped, replayed and retried."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mpdispatch import BatchNotFoundError, Dispatcher, Engine, StoreBusy, UsageError
from mpdispatch.clock import SystemClock
from mpdispatch.hooks import Extension, JobEnqueued
from mpdispatch.model import ClaimedJob, ErrorInfo, JobState, NewBatch, NewJob, Retried
from mpdispatch.store import SQLiteStore

from .conftest import Cli
from .store.conftest import Desk, failed, retrying
from .whole.harness import until


class Ears(Extension):
    """Which jobs the hooks were told of."""

    name = "ears"

    def __init__(self) -> None:
        self.told: list[int] = []

    def on_job_enqueued(self, event: JobEnqueued) -> None:
        self.told.append(event.job_id)


@pytest.fixture
def ears() -> Ears:
    return Ears()


@pytest.fixture
def engine(tmp_path: Path, ears: Ears) -> Engine:
    engine = Engine.build(Dispatcher(store=SQLiteStore(tmp_path / "jobs.db")), extensions=[ears])
    engine.store.check(create=True)
    return engine


@pytest.fixture
def desk(engine: Engine) -> Iterator[Desk]:
    desk = Desk(engine.store, SystemClock())  # type: ignore[arg-type]  # it only asks for the time
    yield desk
    desk.close()


class Maker:
    def __init__(self, engine: Engine, desk: Desk) -> None:
        self._engine, self._desk = engine, desk

    def _claimed(self, name: str, options: dict[str, Any]) -> ClaimedJob:
        self._engine.store.enqueue(NewJob(name=name, payload=b"{}", **options))
        (claimed,) = self._desk.claim()
        return claimed

    def failed(self, error: str = "ValueError: bad", name: str = "render", **options: Any) -> int:
        job = self._claimed(name, options)
        self._desk.commit(failed(job, SystemClock().now(), error=_error(error)))
        return job.id

    def retrying(self, error: str = "ValueError: bad", name: str = "render", **options: Any) -> int:
        job = self._claimed(name, options)
        self._desk.commit(retrying(job, SystemClock().now(), error=_error(error)))
        return job.id


def _error(text: str) -> ErrorInfo:
    kind, _, message = text.partition(": ")
    return ErrorInfo(type=kind, message=message)


@pytest.fixture
def make(engine: Engine, desk: Desk) -> Maker:
    return Maker(engine, desk)


def test_failures_are_grouped_by_name_and_error_the_largest_first(engine: Engine, make: Maker) -> None:
    pages = [make.failed(f"KeyError: no page {n} in /srv/{n}.pdf") for n in range(3)]
    make.failed("KeyError: no page 1 in /srv/1.pdf", name="mail")
    busy = [
        make.failed("HTTPError: HTTP 503"),
        make.failed("HTTPError: HTTP 503"),
        make.failed("HTTPError: HTTP 404"),
    ]
    groups = engine.dead_letters.groups()
    assert [(each.name, each.type, each.message, each.count, each.example_id) for each in groups] == [
        ("render", "KeyError", "no page <n> in <path>", 3, pages[-1]),
        ("render", "HTTPError", "HTTP 503", 2, busy[1]),
        ("render", "HTTPError", "HTTP 404", 1, busy[2]),
        ("mail", "KeyError", "no page <n> in <path>", 1, pages[-1] + 1),
    ]
    first, last = (engine.dead_letters.get(each).failed_at for each in (pages[0], pages[-1]))
    assert (groups[0].first_failed_at, groups[0].last_failed_at) == (first, last)
    assert [each.count for each in engine.dead_letters.groups(name="mail")] == [1]
    assert [each.count for each in engine.dead_letters.groups(error="HTTP 503")] == [2]
    assert engine.dead_letters.groups(queue="nowhere") == []
    engine.dead_letters.replay(pages[0])
    assert [each.count for each in engine.dead_letters.groups(error="page")] == [2, 1]
    assert [each.count for each in engine.dead_letters.groups(error="page", replayed=None)] == [3, 1]


def test_very_many_failures_are_grouped_and_replayed_in_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mpdispatch.engine import again

    monkeypatch.setattr(again, "_PAGE", 7)
    monkeypatch.setattr(again, "_AT_ONCE", 5)
    store = SQLiteStore(tmp_path / "many.db", durability="process")
    engine = Engine.build(Dispatcher(store=store))
    store.check(create=True)
    desk = Desk(store, SystemClock())  # type: ignore[arg-type]
    store.enqueue_many([NewJob(name="a", payload=b'{"n":%d}' % n) for n in range(40)])
    desk.commit(*(failed(job, SystemClock().now()) for job in desk.claim()))
    parts = list[int]()
    retry_many = store.retry_many
    monkeypatch.setattr(store, "retry_many", lambda ids: parts.append(len(ids)) or retry_many(ids))
    assert [each.count for each in engine.dead_letters.groups()] == [40]
    assert engine.dead_letters.replay_all(name="a") == Retried(count=40, errors={})
    assert parts == [5] * 8
    made = engine.list_jobs(state="pending").items[::-1]
    assert [job.payload["n"] for job in made] == list(range(40)), "in the order in which they failed"
    desk.close()


def test_replay_all_takes_what_is_selected_and_tells_the_hooks(engine: Engine, make: Maker, ears: Ears) -> None:
    batch = engine.store.batches.open(NewBatch(name="b")).id
    mine, other, mail = make.failed(batch_id=batch), make.failed("OSError: gone"), make.failed(name="mail")
    told = list[int]()
    replay = engine.dead_letters.replay_all
    assert replay(batch=batch, on_selected=told.append).count == 1
    assert engine.get_job(mine).retried_as is not None
    assert replay(error="gone", name="mail").count == 0
    assert replay(error="OSError: gone").count == 1
    assert replay(everything=True, on_selected=told.append) == Retried(count=1, errors={})
    assert told == [1, 1]
    assert replay(everything=True).count == 0
    news = [engine.get_job(each).retried_as for each in (mine, other, mail)]
    assert engine.list_jobs(state="pending", batch=batch).items[0].id == news[0]
    until(lambda: len(ears.told) >= 3, "the hooks are told")
    assert ears.told == news
    assert engine.counts()[JobState.FAILED] == 0


@pytest.mark.parametrize("call", ["dead_letters.replay_all", "retry_all"])
def test_nothing_said_is_refused_and_so_is_what_cannot_be(engine: Engine, make: Maker, call: str) -> None:
    make.failed()
    act: Any = engine
    for part in call.split("."):
        act = getattr(act, part)
    for keywords, text in (
        ({}, "say which jobs: queue, name, batch or error; or everything=True"),
        ({"batch": 0}, "batch: must be the id of a batch"),
        ({"error": ""}, "error: must not be empty"),
        ({"error": 5}, "error: must be text"),
        ({"name": "\udcff"}, "name: must be text that is valid UTF-8"),
    ):
        with pytest.raises(UsageError, match=text):
            act(**keywords)
    assert engine.dead_letters.count() == 1


@pytest.mark.parametrize("call", ["dead_letters.replay_all", "dead_letters.purge", "retry_all"])
def test_an_unknown_batch_is_refused(engine: Engine, make: Maker, call: str) -> None:
    make.failed()
    with pytest.raises(BatchNotFoundError):
        attrgetter(call)(engine)(batch=999)
    assert engine.dead_letters.count() == 1


def test_a_callback_that_raises_leaves_everything_as_it_is(engine: Engine, make: Maker) -> None:
    make.failed()

    def no(count: int) -> None:
        raise KeyboardInterrupt

    for act in (engine.dead_letters.replay_all, engine.retry_all):
        with pytest.raises(KeyboardInterrupt):
            act(everything=True, on_selected=no)
    assert engine.dead_letters.count() == 1


def test_retry_all_runs_failed_and_retrying_jobs_again(engine: Engine, make: Maker) -> None:
    failure, waiting = make.failed("OSError: gone"), make.retrying("OSError: gone")
    make.retrying("ValueError: bad")
    scheduled = engine.store.enqueue(NewJob(name="later", payload=b"{}", delay_us=60_000_000)).id
    cancelled = engine.cancel(engine.store.enqueue(NewJob(name="a", payload=b"{}")).id).id
    assert engine.retry_all(error="OSError") == Retried(count=2, errors={})
    assert engine.get_job(waiting).state is JobState.PENDING
    assert engine.get_job(failure).retried_as is not None
    assert engine.retry_all(everything=True).count == 1
    assert engine.get_job(scheduled).state is JobState.SCHEDULED, "only if it is asked for"
    assert engine.retry_all(state="scheduled", name="later").count == 1
    assert engine.get_job(scheduled).state is JobState.PENDING
    assert engine.retry_all(state=JobState.CANCELLED, everything=True).count == 1
    assert engine.get_job(cancelled).retried_as is not None
    assert engine.retry_all(state="cancelled", everything=True).count == 0
    for state in ("running", "completed", "no"):
        with pytest.raises(UsageError, match="state: must be one of failed, retrying, scheduled, cancelled"):
            engine.retry_all(state=state, everything=True)


def test_a_job_that_cannot_run_again_is_named_and_stops_no_other(engine: Engine, make: Maker) -> None:
    first, second, third = make.failed(), make.failed(), make.failed()
    session = engine.store._sessions.current()  # type: ignore[attr-defined]
    session.connection.execute("PRAGMA ignore_check_constraints = ON")
    session.connection.execute("UPDATE mpdispatch_jobs SET max_retries = -1 WHERE id = ?", (second,))
    session.connection.execute("PRAGMA ignore_check_constraints = OFF")
    done = engine.dead_letters.replay_all(everything=True)
    assert (done.count, list(done.errors)) == (2, [second])
    assert "its row holds what the table forbids" in done.errors[second]
    assert [engine.get_job(each).retried_as is None for each in (first, second, third)] == [False, True, False]
    assert engine.dead_letters.count() == 1
    json = msgspec.to_builtins(done)
    assert json["count"] == 2


def test_a_replay_of_many_that_is_killed_goes_on_where_it_was(
    engine: Engine, desk: Desk, cli: Cli, tmp_path: Path
) -> None:
    engine.store.enqueue_many([NewJob(name="a", payload=b'{"n":%d}' % n) for n in range(250)])
    claimed = [job for _ in range(3) for job in desk.claim()]
    desk.commit(*(failed(job, SystemClock().now()) for job in claimed))
    # In the second transaction: the first 100 are replayed, and of the next none is.
    armed = {"MPDISPATCH_FAILPOINTS": "retry.after_insert:kill@150"}
    command = ["dlq", "replay", "--all", "--store", "jobs.db"]
    assert cli(*command, env=armed).returncode == -9
    assert (engine.dead_letters.count(), engine.counts()[JobState.PENDING]) == (150, 100)
    assert cli(*command).stdout == "replayed 150, 0 errors\n"
    made = engine.list_jobs(state="pending", limit=1000).items
    assert sorted(job.payload["n"] for job in made) == [*range(250)], "each once"
    assert engine.counts()[JobState.FAILED] == 0


@pytest.mark.serial
def test_a_replay_of_very_many_never_holds_a_claim_up(engine: Engine, desk: Desk) -> None:
    engine.store.enqueue_many([NewJob(name="a", payload=b"{}") for _ in range(3000)])
    while claimed := desk.claim(500):
        desk.commit(*(failed(job, SystemClock().now()) for job in claimed))
    longest, taken, done = 0.0, 0, threading.Event()

    def replay() -> None:
        assert engine.dead_letters.replay_all(everything=True).count == 3000
        engine.store.close()
        done.set()

    thread = threading.Thread(target=replay)
    thread.start()
    while not done.is_set():
        began_s = time.perf_counter()
        with suppress(StoreBusy):  # a busy answer comes within 50 ms too
            taken += len(desk.claim(4))
        longest = max(longest, time.perf_counter() - began_s)
    thread.join()
    assert taken > 0
    assert longest < 0.25, "some ten milliseconds by itself; the rest is what a busy machine adds"

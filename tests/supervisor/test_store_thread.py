"""While a call of the store is away on its thread the loop goes on, and nothing that comes meanwhile is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from mpdispatch.errors import StoreBusy
from mpdispatch.model import CronDecision, CronSpec, Firing, NewCron, NewJob
from mpdispatch.pool.selector import Selector
from mpdispatch.store import SQLiteStore
from mpdispatch.store.sqlite.supervisor_store import SQLiteSupervisorStore
from mpdispatch.store.values import CommitResult, Progress
from mpdispatch.supervisor.store_thread import StoreThread, ThreadedStore
from tests.supervisor.conftest import Build

SLOW_S = 0.05


def _slow_commits(
    monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[SQLiteSupervisorStore], None]
) -> list[str]:
    """Have each commit wait for its disk; `meanwhile` is called while it does. Gives the threads they run on."""
    real, threads = SQLiteSupervisorStore.commit, list[str]()

    def commit(store: SQLiteSupervisorStore, *args: Any, **options: Any) -> CommitResult:
        result = real(store, *args, **options)
        threads.append(threading.current_thread().name)
        meanwhile(store)
        time.sleep(SLOW_S)
        return result

    monkeypatch.setattr(SQLiteSupervisorStore, "commit", commit)
    return threads


def test_only_the_first_slow_commit_is_waited_for(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    house = build()
    house.ready()
    threads = _slow_commits(monkeypatch, lambda _: None)
    house.ended(house.enqueue("noop"), house.enqueue("noop"))
    assert threads[0] == "MainThread"
    assert set(threads[1:]) == {"mpdispatch-store"}


def test_a_wake_up_during_a_commit_is_answered(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    house = build(config={"poll_interval": 60.0})
    house.ready()
    late = list[int]()

    def enqueue_one(_: SQLiteSupervisorStore) -> None:
        if threading.current_thread() is not threading.main_thread() and not late:
            late.append(house.enqueue("noop"))  # that commit has claimed already

    _slow_commits(monkeypatch, enqueue_one)
    house.ended(house.enqueue("noop"), house.enqueue("noop"))
    house.until(lambda: late)
    house.ended(*late)


def test_a_report_during_a_commit_is_written_by_the_next(
    build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    house = build(config={"concurrency": 2})
    job_id = house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    reports = [Progress(job_id=job_id, starts=1, data=b'{"done":%d}' % number) for number in (1, 2)]

    def report_again(_: SQLiteSupervisorStore) -> None:
        house.wiring.in_flight.report(reports[1], 0)

    with monkeypatch.context() as patched:
        _slow_commits(patched, report_again)
        house.wiring.in_flight.report(reports[0], 0)
        house.until(lambda: house.job(job_id).progress)
    house.until(lambda: house.job(job_id).progress == {"done": 2}, what="the later report")
    (tmp_path / "gate").touch()
    house.ended(job_id)


def test_what_a_call_raises_on_the_thread_is_raised_where_it_was_made() -> None:
    selector = Selector()
    thread = StoreThread(selector)

    def go_on(is_done: Callable[[], bool]) -> None:
        while not is_done():
            selector.select(1.0)

    def raises() -> None:
        assert threading.current_thread() is not threading.main_thread()
        raise StoreBusy("jobs.db")

    thread.meanwhile = go_on
    thread.call(lambda: time.sleep(SLOW_S))
    with pytest.raises(StoreBusy):
        thread.call(raises)
    thread.close()
    selector.close()


class Counted:
    """Stands in for the thread: makes each call at once, and counts them."""

    def __init__(self) -> None:
        self.calls = 0

    def call(self, work: Callable[[], Any]) -> Any:
        self.calls += 1
        return work()


def test_what_is_written_to_cron_entries_goes_to_the_thread_and_what_is_read_does_not() -> None:
    store, thread = SQLiteStore(":memory:"), Counted()
    store.migrate()
    crons = ThreadedStore(store.supervisor_store(), thread).crons  # type: ignore[arg-type]
    spec = CronSpec(name="sweep", schedule="@hourly", tz="UTC", job=NewJob(name="sweep", payload=b"{}"))
    new = NewCron(spec=spec, origin="code", app="shop:engine", decided_until_us=0, next_slot_us=1)
    assert crons.sync("code", "shop:engine", [new]).added == ["sweep"]
    (entry,) = crons.entries()
    decision = CronDecision(
        cron_id=entry.id,
        revision=entry.revision,
        fires=[Firing(3, 3)],
        decided_until_us=3,
        next_slot_us=4,
    )
    assert len(crons.decide(decision) or ()) == 1
    assert [firing.slot_us for firing in crons.entries()[0].open] == [3]
    assert thread.calls == 2

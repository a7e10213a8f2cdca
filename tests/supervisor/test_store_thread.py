"""While a call of the store is away on its thread the loop goes on, and nothing that comes meanwhile is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from mpdispatch.errors import StoreBusy
from mpdispatch.model import Cause, CronDecision, CronSpec, Firing, JobState, NewCron, NewJob
from mpdispatch.pool.selector import Selector
from mpdispatch.store import SQLiteStore
from mpdispatch.store.sqlite.supervisor_store import SQLiteSupervisorStore
from mpdispatch.store.values import CommitResult, Progress
from mpdispatch.supervisor.store_thread import StoreThread, ThreadedStore
from tests.pool.probes import lives
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


def _remote(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Have the store say that it is on a server. Gives the threads of each of its calls."""
    monkeypatch.setattr(SQLiteSupervisorStore, "is_remote", True)
    threads: dict[str, set[str]] = {}
    for name in ("register", "renew", "commit", "peers", "cancel_requests"):
        _watch(monkeypatch, name, threads.setdefault(name, set()))
    return threads


def _watch(monkeypatch: pytest.MonkeyPatch, name: str, threads: set[str]) -> None:
    real = getattr(SQLiteSupervisorStore, name)

    def watched(*args: Any, **options: Any) -> Any:
        threads.add(threading.current_thread().name)
        return real(*args, **options)

    monkeypatch.setattr(SQLiteSupervisorStore, name, watched)


class Silence:
    """From `begin` to `end`, no call of the supervisor's store is answered, as by a server that is stopped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._may_go_on = threading.Event()
        self._may_go_on.set()
        self.met = threading.Event()
        for name in ("renew", "commit", "peers", "cancel_requests", "register"):
            self._hold(monkeypatch, name, getattr(SQLiteSupervisorStore, name))

    def _hold(self, monkeypatch: pytest.MonkeyPatch, name: str, real: Callable[..., Any]) -> None:
        def held(*args: Any, **options: Any) -> Any:
            if not self._may_go_on.is_set():
                self.met.set()
                self._may_go_on.wait(30)
            return real(*args, **options)

        monkeypatch.setattr(SQLiteSupervisorStore, name, held)

    def begin(self) -> None:
        self._may_go_on.clear()

    def end(self) -> None:
        self._may_go_on.set()


def test_all_calls_of_a_store_on_a_server_are_made_on_the_thread(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = _remote(monkeypatch)
    house = build(config={"heartbeat_interval": 0.2})
    house.ready()
    house.ended(house.enqueue("noop"))
    house.until(lambda: threads["renew"] and threads["peers"] and threads["cancel_requests"])
    assert threads["register"] == {"MainThread"}  # nothing runs yet
    threads["register"].clear()
    house.unregister()
    house.until(lambda: house.store.supervisors())
    assert set().union(*threads.values()) == {"mpdispatch-store"}


def test_a_timeout_is_enforced_while_the_server_is_silent(
    build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    _remote(monkeypatch)
    house = build(config={"heartbeat_interval": 0.2, "kill_grace": 0.1})
    silence = Silence(monkeypatch)
    job_id = house.enqueue(
        "hold",
        {"timeout_us": 500_000, "max_retries": 0},
        started=tmp_path / "started",
        gate=tmp_path / "gate",
    )
    house.until((tmp_path / "started").exists)
    silence.begin()
    ends = threading.Timer(3.0, silence.end)
    ends.start()
    (job,) = house.ended(job_id)
    ends.join()
    assert (job.state, job.starts) == (JobState.FAILED, 1)
    (attempt,) = house.store.attempts(job_id)
    assert attempt.cause is Cause.TIMEOUT
    assert attempt.duration_s is not None
    assert attempt.duration_s < 2


def test_workers_are_killed_in_time_if_the_server_stays_silent(
    build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Before the lease ends, and while the call is still away; then the job runs once more."""
    _remote(monkeypatch)
    house = build(config={"heartbeat_interval": 0.2, "stale_job_threshold": 1.0})
    silence = Silence(monkeypatch)
    job_id = house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    before, (worker,) = house.owner, house.workers
    silence.begin()
    began = time.monotonic()
    killed_s = list[float]()

    def watch() -> None:
        while lives(worker.pid):
            time.sleep(0.005)
        killed_s.append(time.monotonic() - began)
        silence.end()

    watcher = threading.Thread(target=watch)
    watcher.start()
    house.until(lambda: house.owner != before, timeout_s=20)
    watcher.join()
    assert killed_s[0] < 1.0
    (tmp_path / "gate").touch()
    (job,) = house.ended(job_id)
    assert (job.state, job.starts) == (JobState.COMPLETED, 2)
    assert house.causes(job_id) == [Cause.LEASE_LOST, Cause.COMPLETED]


def test_a_server_that_answers_in_time_costs_no_job(
    build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    _remote(monkeypatch)
    house = build(config={"heartbeat_interval": 0.2, "stale_job_threshold": 3.0})
    silence = Silence(monkeypatch)
    job_id = house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    before = house.owner
    silence.begin()
    ends = threading.Timer(1.0, silence.end)
    ends.start()
    house.until(silence.met.is_set)
    (tmp_path / "gate").touch()
    (job,) = house.ended(job_id)
    ends.join()
    assert (house.owner, job.starts) == (before, 1)


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

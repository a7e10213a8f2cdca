"""Who gets which job: short ones queue in a worker's hands, and nothing waits behind one that is long."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mpdispatch.config import QueueConfig
from mpdispatch.model import AlikeJobs, ClaimedJob, JobState, NewJob, Transition
from mpdispatch.pool.process import WorkerProcess
from mpdispatch.store.sqlite.supervisor_store import SQLiteSupervisorStore
from mpdispatch.store.values import CommitResult
from tests.pool.app import engine
from tests.pool.probes import pid_in
from tests.supervisor.conftest import Build
from tests.supervisor.house import House


@pytest.fixture
def depths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many jobs a worker held each time it was given some, those included."""
    found: list[int] = []
    real = WorkerProcess.flush

    def give(worker: WorkerProcess) -> list[ClaimedJob]:
        left = real(worker)
        found.append(len(worker.assigned))
        return left

    monkeypatch.setattr(WorkerProcess, "flush", give)
    return found


def _teach(house: House, name: str = "uneven", count: int = 30) -> None:
    """Let it see that this handler is quick."""
    house.ended(*[house.enqueue(name) for _ in range(count)])


def test_none_of_many_short_jobs_waits_behind_the_long_one_that_hides_among_them(build: Build) -> None:
    house = build(config={"concurrency": 2})
    house.enqueue("sleep", seconds=0.3)  # two workers are wanted
    house.enqueue("sleep", seconds=0.3)
    house.ready(2)
    _teach(house)
    ids = [house.enqueue("uneven") for _ in range(60)]
    long = house.enqueue("uneven", seconds=1.0)
    ids += [house.enqueue("uneven") for _ in range(60)]
    short = house.ended(*ids)
    ended_long = house.ended(long)[0]
    assert ended_long.completed_at is not None
    late = [job.id for job in short if job.completed_at is None or job.completed_at > ended_long.completed_at]
    assert late == []
    assert all(job.starts <= 1 for job in [*short, ended_long])


def test_short_jobs_queue_in_a_workers_hands(build: Build, depths: list[int]) -> None:
    house = build(config={"prefetch_window": 1.0})
    _teach(house)
    house.ended(*[house.enqueue("uneven") for _ in range(40)])
    assert max(depths) > 5


def test_a_worker_is_started_for_a_job_that_comes_while_all_others_are_at_long_ones(
    build: Build, tmp_path: Path
) -> None:
    house = build(config={"concurrency": 3})
    _teach(house, "noop")
    gate = tmp_path / "gate"
    for number in range(2):
        house.enqueue("hold", started=tmp_path / f"started {number}", gate=gate)
        house.until((tmp_path / f"started {number}").exists)

    def are_all_at_work() -> bool:
        for worker in house.workers:
            if not worker.assigned:
                worker.retire()
        return all(worker.assigned for worker in house.workers)

    house.until(are_all_at_work)
    house.clock.advance(2)
    house.ended(house.enqueue("noop"))
    assert not gate.exists(), "they are still at work"


def test_nothing_is_queued_behind_a_handler_not_seen_yet(build: Build, tmp_path: Path) -> None:
    house = build(config={"prefetch_window": 1.0})
    house.ready()
    house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    for _ in range(5):
        house.enqueue("noop")
    house.steps(20)
    assert [len(worker.assigned) for worker in house.workers] == [1]
    (tmp_path / "gate").touch()


def test_a_prefetch_window_of_0_gives_out_one_at_a_time(build: Build, depths: list[int]) -> None:
    house = build(config={"prefetch_window": 0})
    house.ended(*[house.enqueue("uneven") for _ in range(20)])
    assert depths == [1] * 20


def test_max_prefetch_bounds_a_hand(build: Build, depths: list[int]) -> None:
    house = build(config={"prefetch_window": 10.0, "max_prefetch": 4})
    _teach(house)
    house.ended(*[house.enqueue("uneven") for _ in range(40)])
    assert 1 < max(depths) <= 4


def test_workers_start_on_demand_and_no_more_than_allowed(build: Build, tmp_path: Path) -> None:
    house = build(config={"concurrency": 3})
    house.ready()
    house.steps(20)
    assert len(house.workers) == 1
    ids = [house.enqueue("hold", started=tmp_path / f"s{n}", gate=tmp_path / "gate") for n in range(5)]
    house.until(lambda: sum((tmp_path / f"s{n}").exists() for n in range(5)) == 3)
    house.steps(20)
    assert len(house.workers) == 3
    assert len({pid_in(tmp_path / f"s{n}") for n in range(3)}) == 3
    (tmp_path / "gate").touch()
    house.ended(*ids)
    assert len(house.workers) == 3


def _make_stale(worker: WorkerProcess) -> None:
    """As if a job had been taken back that lies in it."""
    assert worker.launched.permits is not None
    worker.launched.permits.add(1)
    assert worker.sender.recall(1) == 1
    assert worker.sender.is_stale


@pytest.mark.parametrize("duration_us", [100, 10_000_000])
def test_another_worker_is_started_if_the_only_one_gets_no_jobs_until_it_lets_go_of_some(
    build: Build, tmp_path: Path, duration_us: int
) -> None:
    house = build(config={"concurrency": 2})
    house.ready()
    house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    for _ in range(50):
        house.wiring.assigner.estimates.add("noop", duration_us)
    _make_stale(house.workers[0])
    house.ended(house.enqueue("noop"))
    (tmp_path / "gate").touch()


def test_a_worker_that_gets_no_jobs_for_now_holds_its_place_all_the_same(build: Build, tmp_path: Path) -> None:
    house = build(config={"concurrency": 1})
    house.ready()
    house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    _make_stale(house.workers[0])
    waiting = house.enqueue("noop")
    house.steps(20)
    assert house.store.get(waiting).state is JobState.PENDING
    (tmp_path / "gate").touch()


def test_a_queue_is_held_to_its_concurrency(build: Build, tmp_path: Path) -> None:
    limits = (QueueConfig("default", max_concurrency=1),)
    house = build(config={"concurrency": 3, "prefetch_window": 1.0}, queue_configs=limits)
    jobs = house.ended(*[house.enqueue("sleep", seconds=0.02) for _ in range(6)])
    spans = []
    for job in jobs:
        (attempt,) = house.store.attempts(job.id)
        assert attempt.duration_s is not None
        begun = attempt.started_at.timestamp()
        spans.append((begun, begun + attempt.duration_s))
    spans.sort()
    assert all(ended <= begun + 0.001 for (_, ended), (begun, _) in pairwise(spans))


def test_a_job_due_later_starts_when_it_is_due(house: House) -> None:
    house.ready()
    due_us = house.clock.now().wall_us + 300_000
    job_id = house.enqueue("noop", {"run_at_us": due_us})
    (job,) = house.ended(job_id)
    assert job.started_at is not None
    late_s = job.started_at.timestamp() - due_us / 1e6
    assert 0 <= late_s < 0.15
    assert isinstance(job.completed_at, datetime)


def test_thousands_of_jobs_run_once_each(build: Build, tmp_path: Path) -> None:
    house = build(config={"concurrency": 2})
    ids = house.store.enqueue_many(AlikeJobs(NewJob(name="noop", payload=b""), [b"{}"] * 3000)).ids
    house.until(lambda: house.store.counts()[JobState.COMPLETED] == len(ids), timeout_s=30)
    assert house.wiring.in_flight.completed == len(ids)
    assert house.wiring.in_flight.stale_writes == 0
    assert all(house.job(job_id).starts <= 2 for job_id in ids[::100])


@pytest.mark.parametrize("drain", [False, True])
def test_a_job_whose_handler_is_registered_while_a_claim_waits_for_the_lock_runs_at_once(
    build: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, drain: bool
) -> None:
    """The claim does not know its name yet and parks it; the next one comes at once, and does. Nobody is warned."""
    house = build(config={"poll_interval": 60.0}, drain=drain)
    house.enqueue("noop")  # or a drain ends before it has claimed anything
    commit, late, parked = SQLiteSupervisorStore.commit, list[int](), list[int]()

    def slow(supervisor_store: SQLiteSupervisorStore, *args: Any, **options: Any) -> CommitResult:
        if options["claim"] is not None and not late:
            monkeypatch.setitem(engine.registry._definitions, "late", engine.registry.get("noop"))
            late.append(house.enqueue("late", {"priority": 1}))
        result = commit(supervisor_store, *args, **options)
        parked.append(sum(result.parked.values()))
        return result

    monkeypatch.setattr(SQLiteSupervisorStore, "commit", slow)
    house.until(lambda: late and house.state(late[0]) is JobState.COMPLETED, timeout_s=5)
    assert sum(parked) == 1
    assert "parked jobs" not in caplog.text


def test_a_turn_writes_and_claims_so_many_at_most_and_the_rest_soon_after(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = build(config={"prefetch_window": 1.0, "poll_interval": 60.0})
    _teach(house)
    monkeypatch.setattr("mpdispatch.supervisor.committer._MOST_JOBS", 7)
    supervisor_store, sizes = house.wiring.store, list[tuple[int, int]]()
    real = supervisor_store.commit

    def spied(owner: int, transitions: Sequence[Transition], *reports: Any, **options: Any) -> CommitResult:
        found = real(owner, transitions, *reports, **options)
        sizes.append((len(transitions), len(found.claimed)))
        return found

    monkeypatch.setattr(supervisor_store, "commit", spied)
    house.store.enqueue_many(AlikeJobs(NewJob(name="uneven", payload=b"{}"), [b"{}"] * 60))
    left, tick = list[float](), house.supervisor.tick

    def watched_tick() -> float:
        wait_s = tick()
        if house.wiring.in_flight.pending:
            left.append(wait_s)
        return wait_s

    monkeypatch.setattr(house.supervisor, "tick", watched_tick)
    house.until(lambda: house.store.counts()[JobState.COMPLETED] == 90)
    assert max(sizes) == (7, 7)
    assert sum(written for written, _ in sizes) == 60
    assert left, "some had to be left for another commit"
    assert max(left) <= 0.008


def test_a_second_helping_is_claimed_before_the_first_is_eaten(build: Build) -> None:
    house = build(config={"prefetch_window": 0.05, "max_prefetch": 4})
    _teach(house)
    for _ in range(40):
        house.enqueue("uneven", seconds=0.002)
    seen = set[tuple[int, int]]()

    def is_done() -> bool:
        seen.update((len(worker.assigned), len(house.wiring.in_flight.backlog)) for worker in house.workers)
        return house.store.counts()[JobState.COMPLETED] == 70

    house.until(is_done)
    assert any(hand and backlog for hand, backlog in seen), "they eat, and more is there"
    assert max(backlog for _, backlog in seen) == 4


def test_no_second_helping_of_jobs_that_take_long(build: Build, tmp_path: Path) -> None:
    house = build(config={"prefetch_window": 0.05})
    house.ended(*[house.enqueue("uneven", seconds=0.25) for _ in range(2)])
    for _ in range(5):
        house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    house.steps(20)
    assert [*map(len, (house.workers[0].assigned, house.wiring.in_flight.backlog))] == [1, 0]
    (tmp_path / "gate").touch()


def test_what_is_claimed_for_a_worker_that_hangs_goes_back_and_is_not_claimed_again(
    build: Build, tmp_path: Path
) -> None:
    house = build()
    _teach(house)
    house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    ids = [house.enqueue("uneven") for _ in range(5)]
    house.steps(20)
    for _ in range(3):
        house.clock.advance(1.5)
        house.steps(20)
    assert [(house.state(i), house.job(i).attempt) for i in ids] == [(JobState.PENDING, 0)] * 5
    assert max(house.job(i).starts for i in ids) <= 1
    (tmp_path / "gate").touch()
    house.ended(*ids)


def test_very_short_jobs_are_dealt_in_runs_of_one_handler_within_every_limit(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = build(config={"max_jobs_per_worker": 40, "max_prefetch": 12})
    _teach(house, "noop", 20)
    dealt = list[tuple[set[str], int, int]]()
    real = WorkerProcess.assign

    def hold(worker: WorkerProcess, jobs: Sequence[ClaimedJob], *rest: Any) -> None:
        real(worker, jobs, *rest)
        dealt.append(({job.name for job in jobs}, len(worker.assigned), worker.jobs_sent))

    monkeypatch.setattr(WorkerProcess, "assign", hold)
    made = [house.store.enqueue_many(AlikeJobs(NewJob(name="noop", payload=b""), [b"{}"] * 30)).ids]
    echo = NewJob(name="echo", payload=b"")
    made.append(house.store.enqueue_many(AlikeJobs(echo, [b'{"value":%d}' % n for n in range(30)])).ids)
    made.append(house.store.enqueue_many(AlikeJobs(NewJob(name="noop", payload=b""), [b"{}"] * 30)).ids)
    jobs = house.ended(*[job_id for ids in made for job_id in ids])
    assert [job.result for job in jobs] == [None] * 30 + [*range(30)] + [None] * 30
    assert {len(names) for names, _, _ in dealt} == {1}
    assert max(hand for _, hand, _ in dealt) == 12
    assert max(sent for _, _, sent in dealt) == 40
    assert len(dealt) < 60, "many went together"


def test_commits_are_short_while_others_enqueue(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    house = build(config={"poll_interval": 60.0})
    _teach(house)
    monkeypatch.setattr("mpdispatch.supervisor.committer._MOST_WHILE_CONTENDED", 3)
    supervisor_store, claimed, pauses = house.wiring.store, list[int](), list[int]()
    real = supervisor_store.commit

    def spied(*args: Any, **options: Any) -> CommitResult:
        found = real(*args, **options)
        claimed.append(len(found.claimed))
        return found

    def all_claimed() -> bool:
        if claimed[-1:] == [3]:  # the clock has stood still since
            pauses.append(house.wiring.committer.delay_us(house.clock.now().boot_us))
        house.clock.advance(0.0005)
        return sum(claimed) == 20

    monkeypatch.setattr(supervisor_store, "commit", spied)
    house.clock.freeze()
    for crowded in (False, True):
        house.until(lambda: not (house.wiring.in_flight.has_news or house.workers[0].assigned))
        house.clock.advance(1.0)
        claimed.clear()
        house.store.enqueue_many(AlikeJobs(NewJob(name="uneven", payload=b""), [b"{}"] * 20))
        house.wiring.claimer.try_now()
        house.wiring.contention.woken(house.clock.now().boot_us)
        for _ in range(3 if crowded else 1):
            house.clock.advance(0.01)
            house.wiring.contention.woken(house.clock.now().boot_us)
        pauses.clear()
        house.until(all_claimed)
        assert (max(claimed) <= 3) is crowded
    assert max(pauses) > 0, "whoever waits for the lock is let in"


def test_a_worker_that_runs_its_last_job_counts_as_one_of_those_that_may_run_one(
    build: Build, tmp_path: Path
) -> None:
    house = build(config={"max_jobs_per_worker": 1})
    last = house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    house.ready()  # whoever comes in its place is up, and waits
    other = house.enqueue("noop")
    for _ in range(50):
        house.step()
        assert sum(1 for worker in house.workers if worker.assigned) == 1
    assert house.state(other) is JobState.PENDING
    (tmp_path / "gate").touch()
    assert [job.state for job in house.ended(last, other)] == [JobState.COMPLETED] * 2


def test_nothing_is_claimed_ahead_for_a_worker_that_must_wait_for_anothers_last_job(
    build: Build, tmp_path: Path
) -> None:
    house = build(config={"max_jobs_per_worker": 31})
    _teach(house, count=30)
    last = house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    house.ready()  # whoever comes in its place
    other = house.enqueue("noop")
    for _ in range(4):
        house.clock.advance(0.6)
        house.steps(10)
    assert (house.state(other), house.job(other).starts) == (JobState.PENDING, 0)
    (tmp_path / "gate").touch()
    house.ended(last, other)

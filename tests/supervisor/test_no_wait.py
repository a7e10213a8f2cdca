"""Nothing the loop does waits: a job is ended on time whatever else is being killed, rescued or written meanwhile."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpdispatch.host import kill
from mpdispatch.host.processes import Seen, process_id
from mpdispatch.model import Cause, JobState
from mpdispatch.pool.assigned import WorkerState
from mpdispatch.pool.exec import ExitStatus, Launched
from mpdispatch.store.values import Progress
from mpdispatch.supervisor import dead_peer, rescue
from tests.pool.probes import lives
from tests.pool.probes import until as wait_until
from tests.supervisor.conftest import Build
from tests.supervisor.house import House
from tests.supervisor.peers import Peer, enqueued, leftover

TIMEOUT_S = 0.2
LATE_S = 0.1
"""20 ms, and as much as a machine that is busy with other tests may add."""


def _with_timeout(house: House, tmp_path: Path) -> int:
    """A job that runs, and is to be ended in a moment."""
    job_id = house.enqueue(
        "hold",
        {"timeout_us": round(TIMEOUT_S * 1e6), "max_retries": 0},
        started=tmp_path / "limited",
        gate=tmp_path / "gate",
    )
    house.until((tmp_path / "limited").exists)
    return job_id


def _is_ended_on_time(house: House, job_id: int) -> bool:
    house.until_state(job_id, JobState.FAILED)
    attempt = house.attempt(job_id)
    assert attempt.cause is Cause.TIMEOUT
    assert attempt.duration_s is not None
    print(f"ended after {attempt.duration_s:.3f} s")
    return attempt.duration_s < TIMEOUT_S + LATE_S


def test_a_job_is_ended_on_time_while_what_a_dead_peer_left_takes_long_to_die(
    build: Build, peer: Callable[..., Peer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (waiting,) = enqueued(tmp_path, 1)
    token = secrets.token_hex(8)
    dead = peer(token=token)
    worker = leftover(tmp_path, f"{token}.1")
    dead.start(dead.record(process_id(worker.pid)), dead.claim(1)[0])
    house = build()
    job_id = _with_timeout(house, tmp_path)
    real, until_s = rescue.kill_leftovers, time.monotonic() + 0.6

    def dies_slowly(*args: Any, **options: Any) -> int:
        return real(*args, **options) or (1 if time.monotonic() < until_s else 0)

    monkeypatch.setattr(rescue, "kill_leftovers", dies_slowly)
    dead.die()
    assert _is_ended_on_time(house, job_id)
    house.until(lambda: Cause.LEASE_LOST in house.causes(waiting), what="the jobs of the dead one taken over")
    worker.wait()


def _queued_s() -> float:
    """How long this thread was ready and did not run."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


def _longest_step_s(house: House, until: Callable[[], object]) -> float:
    """Step until this is so; gives how long the longest step took, but for its own wait, and but for the time that
    other processes had its processor."""
    longest = 0.0

    def watched() -> object:
        nonlocal longest
        began, queued = time.monotonic(), _queued_s()
        house.supervisor.tick()
        longest = max(longest, time.monotonic() - began - (_queued_s() - queued))
        house.supervisor.hear(house.runtime.selector.select(0.002))
        return until()

    wait_until(watched, timeout_s=20.0)
    print(f"the longest step took {longest:.3f} s")
    return longest


def test_who_has_lost_its_lease_waits_for_no_worker_that_takes_long_to_die_and_no_file_that_takes_long_to_go(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = build(config={"concurrency": 3})
    ids = [house.enqueue("hold", started=tmp_path / f"s{n}", gate=tmp_path / "gate") for n in range(3)]
    house.until(lambda: all((tmp_path / f"s{n}").exists() for n in range(3)))
    killed, before = [worker.pid for worker in house.workers], house.owner
    until_s = time.monotonic() + 0.6

    reap = Launched.reap

    def ends_slowly(launched: Launched) -> ExitStatus | None:
        return reap(launched) if time.monotonic() > until_s else None

    monkeypatch.setattr(Launched, "reap", ends_slowly)
    remove, removed = dead_peer._remove, list[Path]()

    def removes_slowly(path: Path, log: logging.Logger) -> None:
        time.sleep(0.3)
        remove(path, log)
        removed.append(path)

    monkeypatch.setattr(dead_peer, "_remove", removes_slowly)
    house.unregister()
    house.wiring.in_flight.report(Progress(job_id=ids[0], starts=1, data=b"1"), 0)
    longest_s = _longest_step_s(house, lambda: {each.id for each in house.store.supervisors()} - {before})
    assert longest_s < LATE_S
    assert time.monotonic() < until_s, "registered anew before the last has ended"
    (tmp_path / "gate").touch()
    assert _longest_step_s(house, lambda: removed) < LATE_S
    assert not removed[0].exists()
    house.ended(*ids)
    house.until(lambda: not any(map(lives, killed)))


def test_many_workers_are_killed_by_few_looks_at_all_processes(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = build(config={"concurrency": 6, "cancel_grace": 0.05})
    ids = [house.enqueue("stubborn", started=tmp_path / f"s{n}") for n in range(6)]
    house.until(lambda: all((tmp_path / f"s{n}").exists() for n in range(6)), timeout_s=20.0)
    looks, real = list[float](), kill.process_table

    def counted(**options: bool) -> dict[int, Seen]:
        looks.append(time.monotonic())
        return real(**options)

    monkeypatch.setattr(kill, "process_table", counted)
    for job_id in ids:
        house.store.cancel(job_id)
    _longest_step_s(house, lambda: all(worker.state is WorkerState.KILLED for worker in house.workers))
    assert len(looks) <= 3, "requests may be seen in two goes, and some may have ended in the same step"
    house.ended(*ids)
    assert {house.state(job_id) for job_id in ids} == {JobState.CANCELLED}

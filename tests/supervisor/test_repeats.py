"""What a lasting condition would have a supervisor say again and again is said once; starts that fail are rare."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mpdispatch.errors import StoreFull
from mpdispatch.model import AlikeJobs, NewJob
from tests.supervisor.conftest import Build
from tests.supervisor.house import House


def _count(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records)


def test_a_lease_that_cannot_be_renewed_for_long_is_said_once(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    house.ready()

    def full(*_: object, **__: object) -> None:
        raise StoreFull("jobs.db")

    with monkeypatch.context() as patched:
        for call in ("renew", "register"):
            patched.setattr(house.wiring.store, call, full)
        house.clock.advance(house.config.stale_job_threshold)
        for _ in range(20):
            house.step()
            house.clock.advance(0.6)
    assert _count(caplog, "starting over") == 1
    assert _count(caplog, "the store is in backoff") == 1
    house.ended(house.enqueue("noop"))
    assert _count(caplog, "starting over") == 1


def test_workers_that_cannot_be_started_are_said_once_and_not_tried_for_each_job_that_ends(
    build: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    house = build(config={"concurrency": 3})
    house.ready()
    tried = list[float]()

    def none_left() -> None:
        tried.append(house.clock.now().boot_us / 1e6)
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(house.runtime.pool, "spawn", none_left)
    for _ in range(20):
        house.ended(*[house.enqueue("sleep", seconds=0.02) for _ in range(4)])
    took_s = tried[-1] - tried[0]
    assert len(tried) < 8, f"{len(tried)} starts were tried in {took_s:.1f} s"
    assert _count(caplog, "cannot start a worker") == 1


def test_a_worker_started_after_the_failure_ends_the_back_off(
    build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    house = build(config={"concurrency": 2})
    house.ready()
    with monkeypatch.context() as patched:

        def none_left() -> None:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

        patched.setattr(house.runtime.pool, "spawn", none_left)
        held = [house.enqueue("hold", started=tmp_path / f"s{n}", gate=tmp_path / "gate") for n in range(2)]
        house.until(lambda: house.wiring.boot_backoff.failures >= 1)
    house.clock.advance(60)
    house.until((tmp_path / "s1").exists, what="the other job, on a new worker")
    (tmp_path / "gate").touch()
    house.ended(*held)
    assert house.wiring.boot_backoff.failures == 0


def test_jobs_that_are_parked_again_and_again_are_counted(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.ready()
    for number in range(1, 6):
        house.store.enqueue_many(AlikeJobs(NewJob(name="unknown", payload=b""), [b"{}"] * 3))
        house.until(lambda number=number: sum(house.store.parked().values()) == 3 * number)
    house.steps(3)
    assert _count(caplog, "parked jobs that cannot run here") == 1
    house.runtime.repeats.close()
    (_, last) = [record.getMessage() for record in caplog.records if "parked" in record.getMessage()]
    assert last.startswith("parked jobs that cannot run here (12 more of these in ")

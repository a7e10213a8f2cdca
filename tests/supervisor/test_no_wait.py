"""Nothing the loop does waits: a job is ended on time whatever else is being killed, rescued or written meanwhile."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpdispatch.host.processes import process_id
from mpdispatch.model import Cause, JobState
from mpdispatch.supervisor import rescue
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

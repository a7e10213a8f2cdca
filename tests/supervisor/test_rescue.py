"""A dead or stopped supervisor's jobs are taken over: its workers killed first, its marks believed, nothing run twice."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mpdispatch.ids import process_id
from mpdispatch.model import Cause, JobState
from mpdispatch.pool.marks import marks_path
from mpdispatch.store.sqlite import SQLiteStore
from tests.pool.probes import lives, pid_in, until
from tests.supervisor.conftest import Build
from tests.supervisor.house import House
from tests.supervisor.peers import ROOT, Peer, leftover, stand_in


@pytest.fixture
def peer(build: Build, tmp_path: Path) -> Iterator[Callable[..., Peer]]:
    made: list[Peer] = []

    def register(**options: Any) -> Peer:
        store = SQLiteStore(tmp_path / "jobs.db", durability="process")
        store.migrate()
        store.close()
        made.append(Peer(store, stand_in(), **options))
        return made[-1]

    yield register
    for each in made:
        each.process.kill()
        each.process.wait()
        each.let_go()


def _jobs(tmp_path: Path, count: int, **options: object) -> list[int]:
    """Jobs enqueued before any supervisor is there."""
    from mpdispatch.clock import SystemClock
    from mpdispatch.model import NewJob

    store = SQLiteStore(tmp_path / "jobs.db", durability="process")
    store.migrate()
    ids = [
        store.enqueue(NewJob(name="noop", payload=b"{}", **options), now=SystemClock().now()).id
        for _ in range(count)
    ]
    store.close()
    return ids


def _gone(house: House) -> bool:
    return [each.id for each in house.store.supervisors()] == [house.owner]


# ---------------------------------------------------------------- dead


def test_a_dead_peers_started_job_is_spent_and_its_unstarted_one_is_not(
    build: Build, peer: Callable[..., Peer], tmp_path: Path
) -> None:
    started, unstarted = _jobs(tmp_path, 2, max_retries=0)
    dead = peer()
    claimed = dead.claim(2)
    assert [job.id for job in claimed] == [started, unstarted]
    dead.start(dead.ring(), claimed[0])
    path = marks_path(dead.ledger.side_dir, dead.owner)
    dead.die()
    house = build()
    first, second = house.ended(started, unstarted)
    assert (first.state, first.attempt, first.starts) == (JobState.FAILED, 1, 1)
    assert house.causes(started) == [Cause.LEASE_LOST]
    assert first.last_error is not None
    assert first.last_error.type == "SupervisorDied"
    assert (second.state, second.attempt, second.starts) == (JobState.COMPLETED, 1, 2)
    assert house.causes(unstarted) == [Cause.COMPLETED]
    assert _gone(house)
    assert not path.exists()


@pytest.mark.parametrize("evidence", ["no file", "another boot", "not ours"])
def test_without_evidence_every_job_counts_as_started(
    build: Build, peer: Callable[..., Peer], tmp_path: Path, evidence: str
) -> None:
    ids = _jobs(tmp_path, 2, max_retries=0)
    dead = peer(boot="00000000-0000-0000-0000-000000000000") if evidence == "another boot" else peer()
    dead.claim(2)
    path = marks_path(dead.ledger.side_dir, dead.owner)
    dead.die()
    if evidence == "no file":
        path.unlink()
    elif evidence == "not ours":
        path.write_bytes(b"something else")
    house = build()
    for job in house.ended(*ids):
        assert job.state is JobState.FAILED
        assert house.causes(job.id) == [Cause.LEASE_LOST]
    assert house.supervisor.books.failed == 2


def test_the_death_of_a_watched_peer_is_noticed_at_once(
    build: Build, peer: Callable[..., Peer], tmp_path: Path
) -> None:
    (job_id,) = _jobs(tmp_path, 1)
    other = peer()
    other.claim(1)
    house = build(config={"poll_interval": 30})
    house.ready()
    house.clock.freeze()
    house.steps(5)
    assert house.state(job_id) is JobState.RUNNING
    other.die()
    # No time passes: the kernel says it, not the clock.
    house.until(lambda: len(house.store.supervisors()) == 1)
    (job,) = house.ended(job_id)
    assert (job.state, job.attempt, job.starts) == (JobState.COMPLETED, 1, 2)


def test_leftovers_are_dead_before_their_jobs_run_again(
    build: Build, peer: Callable[..., Peer], tmp_path: Path
) -> None:
    (job_id,) = _jobs(tmp_path, 1)
    token = secrets.token_hex(8)
    dead = peer(token=token)
    kinds = ["child", "daemon", "cleared", "marked", "stopped"]
    worker = leftover(tmp_path, f"{token}.1", *kinds)
    dead.start(dead.ring(process_id(worker.pid)), dead.claim(1)[0])
    dead.die()
    pids = [worker.pid, *(pid_in(tmp_path / kind) for kind in kinds)]
    house = build()
    house.until(lambda: house.causes(job_id) == [Cause.LEASE_LOST])
    worker.wait()
    for pid in pids:
        until(lambda pid=pid: not lives(pid), timeout_s=2)


def test_what_workers_that_died_with_their_supervisor_left_behind_is_ended(
    build: Build, peer: Callable[..., Peer], tmp_path: Path
) -> None:
    (job_id,) = _jobs(tmp_path, 1)
    token = secrets.token_hex(8)
    dead = peer(token=token)
    kinds = ["child", "daemon", "cleared", "marked", "stopped"]
    worker = leftover(tmp_path, f"{token}.1", *kinds)
    dead.start(dead.ring(process_id(worker.pid)), dead.claim(1)[0])
    worker.kill()
    worker.wait()
    dead.die()
    house = build()
    house.until(lambda: house.causes(job_id) == [Cause.LEASE_LOST])
    for kind in kinds:
        until(lambda kind=kind: not lives(pid_in(tmp_path / kind)), timeout_s=2)


def test_a_leftover_that_had_not_signed_its_ring_is_killed_too(
    build: Build, peer: Callable[..., Peer], tmp_path: Path
) -> None:
    # It was still importing, or had its first jobs in its buffer and not looked yet.
    (job_id,) = _jobs(tmp_path, 1)
    token = secrets.token_hex(8)
    dead = peer(token=token)
    dead.claim(1)
    worker = leftover(tmp_path, f"{token}.1")
    dead.die()
    house = build()
    house.ended(job_id)
    assert worker.wait(timeout=5) == -signal.SIGKILL


def test_a_stranger_with_a_leftovers_pid_is_left_alone(
    build: Build, peer: Callable[..., Peer], tmp_path: Path
) -> None:
    (job_id,) = _jobs(tmp_path, 1)
    dead = peer(token=secrets.token_hex(8))
    stranger = leftover(tmp_path, "another.1", "child")
    real = process_id(stranger.pid)
    dead.ring(real._replace(start=real.start - 1))
    dead.claim(1)
    dead.die()
    house = build()
    house.ended(job_id)
    assert stranger.poll() is None
    assert lives(pid_in(tmp_path / "child"))
    os.killpg(stranger.pid, signal.SIGKILL)
    stranger.wait()


def test_a_leftover_that_does_not_die_keeps_its_jobs_waiting(
    build: Build, peer: Callable[..., Peer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mpdispatch.supervisor import rescue

    (job_id,) = _jobs(tmp_path, 1)
    dead = peer()
    worker = stand_in()
    dead.start(dead.ring(process_id(worker.pid)), dead.claim(1)[0])
    dead.die()
    with monkeypatch.context() as patched:
        patched.setattr(rescue, "kill_tree", lambda *_: None)
        patched.setattr(rescue, "_PATIENCE_S", 0.05)
        house = build()
        house.ready()
        house.clock.advance(2)
        house.steps(3)
        assert house.state(job_id) is JobState.RUNNING
    house.clock.advance(2)
    house.until(lambda: house.causes(job_id) == [Cause.LEASE_LOST])
    worker.wait()


# ---------------------------------------------------------------- alive or stopped


def test_a_living_peers_jobs_are_its_own(build: Build, peer: Callable[..., Peer], tmp_path: Path) -> None:
    (job_id,) = _jobs(tmp_path, 1)
    other = peer()
    other.claim(1)
    other.stop()  # stopped, and within its lease
    house = build()
    house.ready()
    house.clock.advance(2)
    house.steps(10)
    assert house.state(job_id) is JobState.RUNNING
    assert len(house.store.supervisors()) == 2


def test_a_stopped_peer_past_its_lease_is_taken_over_and_its_workers_killed(
    build: Build, peer: Callable[..., Peer], tmp_path: Path
) -> None:
    started, unstarted = _jobs(tmp_path, 2)
    token = secrets.token_hex(8)
    other = peer(token=token, lease_s=5.0)
    claimed = other.claim(2)
    worker = leftover(tmp_path, f"{token}.1", "marked")
    other.start(other.ring(process_id(worker.pid)), claimed[0])
    other.stop()
    house = build()
    house.ready()
    house.clock.advance(5.1)
    (job,) = house.ended(unstarted)
    assert (job.state, job.attempt, job.starts) == (JobState.COMPLETED, 1, 2)
    assert house.causes(started) == [Cause.LEASE_LOST]
    assert worker.wait(timeout=5) == -signal.SIGKILL
    until(lambda: not lives(pid_in(tmp_path / "marked")))
    assert lives(other.process.pid)  # it is nobody's to kill: it finds its registration gone
    with pytest.raises(Exception, match="lease"):
        other.claim(1)


# ---------------------------------------------------------------- end to end

_SUPERVISOR = """
import sys
from pathlib import Path
from tests.supervisor.house import House
house = House(Path(sys.argv[1]), config={"concurrency": 2})
print("up", flush=True)
house.supervisor.run()
"""


def test_a_killed_supervisors_jobs_run_elsewhere_within_a_second(build: Build, tmp_path: Path) -> None:
    house = build()
    house.ready()
    mine = house.enqueue("hold", started=tmp_path / "mine", gate=tmp_path / "gate")
    house.until((tmp_path / "mine").exists)
    other = subprocess.Popen(
        [sys.executable, "-c", _SUPERVISOR, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert other.stdout is not None
    other.stdout.readline()
    theirs = house.enqueue("hold", {"max_retries": 1}, started=tmp_path / "theirs", gate=tmp_path / "gate")
    worker = pid_in(tmp_path / "theirs")
    house.until(lambda: len(house.store.supervisors()) == 2)
    house.steps(20)
    other.kill()
    other.wait()
    house.until(lambda: house.causes(theirs) == [Cause.LEASE_LOST], timeout_s=2)
    assert not lives(worker)
    (tmp_path / "gate").touch()
    house.clock.advance(2)
    for job in house.ended(mine, theirs):
        assert job.state is JobState.COMPLETED
    assert (tmp_path / "theirs").read_text().split()[0] == str(worker)
    other.stdout.close()


def test_a_dead_peer_that_cannot_be_taken_over_now_does_not_keep_the_loop_awake(
    build: Build, peer: Callable[..., Peer], tmp_path: Path
) -> None:
    (job_id,) = _jobs(tmp_path, 1)
    other = peer()
    other.claim(1)
    house = build(config={"poll_interval": 30})
    house.ready()
    house.steps(5)
    foreign = house.lock()
    other.die()
    house.steps(5)
    assert house.crew.ears.listen(0.05) == []
    foreign.close()
    house.ended(job_id)

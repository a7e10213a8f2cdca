"""Where the start journal of a dead supervisor proves nothing: its workers are found all the same, and its jobs end."""

from __future__ import annotations

import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mpdispatch.clock import SystemClock
from mpdispatch.execution.catalog import LiveCatalog
from mpdispatch.host import journal_layout
from mpdispatch.host.kill import WORKER_VARIABLE
from mpdispatch.host.processes import process_id
from mpdispatch.host.runtime_folder import runtime_folder
from mpdispatch.host.start_journal import Journal, journal_path
from mpdispatch.model import Cause, JobState
from mpdispatch.repeated import Repeated
from mpdispatch.store.sqlite import SQLiteStore
from mpdispatch.supervisor.in_flight import InFlight
from mpdispatch.supervisor.rescue import Rescuer
from tests.pool.app import engine
from tests.pool.probes import lives, pid_in, until
from tests.supervisor.conftest import Build
from tests.supervisor.house import LOG
from tests.supervisor.peers import Peer, enqueued, leftover

NewPeer = Callable[..., Peer]


# ---------------------------------------------------------------- the start journal


def _spoil(path: Path, how: str) -> None:
    match how:
        case "removed":
            path.unlink()
        case "its header zeroed":
            with path.open("r+b") as file:
                file.write(bytes(4096))
        case "cut to nothing":
            os.truncate(path, 0)
        case "cut in its first record":
            os.truncate(path, journal_layout.PAGE + 100)
        case "cut, and long again":
            size = path.stat().st_size
            os.truncate(path, journal_layout.PAGE)
            os.truncate(path, size)
        case "of another supervisor":
            path.unlink()
            Journal(path, 4, token="another").close(remove=False)
        case "written by anybody":
            path.chmod(0o666)


@pytest.mark.parametrize("is_stopped", [False, True])
@pytest.mark.parametrize(
    "how",
    [
        "removed",
        "its header zeroed",
        "cut to nothing",
        "cut in its first record",
        "cut, and long again",
        "of another supervisor",
        "written by anybody",
    ],
)
def test_workers_are_dead_before_their_jobs_run_again_though_no_file_names_them(
    build: Build, peer: NewPeer, tmp_path: Path, how: str, is_stopped: bool
) -> None:
    started, unstarted = enqueued(tmp_path, 2, max_retries=0)
    token = secrets.token_hex(16)
    other = peer(token=token, lease_s=5.0)
    kinds = ["child", "daemon", "cleared", "marked", "stopped"]
    worker = leftover(tmp_path, f"{token}.1", *kinds)
    other.start(other.record(process_id(worker.pid)), other.claim(2)[0])
    path = journal_path(runtime_folder(other.store), other.owner)
    if is_stopped:
        other.stop()
    else:
        other.die()
    _spoil(path, how)
    house = build()
    house.ready()
    house.clock.advance(5.1)
    for job in house.ended(started, unstarted):
        # Nobody knows which of them had begun.
        assert (job.state, job.starts) == (JobState.FAILED, 1)
        assert house.causes(job.id) == [Cause.LEASE_LOST]
    assert worker.wait(timeout=5) == -signal.SIGKILL
    for kind in kinds:
        until(lambda kind=kind: not lives(pid_in(tmp_path / kind)), timeout_s=2)


def test_a_file_of_schema_version_1_still_proves_what_it_proves(
    build: Build, peer: NewPeer, tmp_path: Path
) -> None:
    started, unstarted = enqueued(tmp_path, 2, max_retries=0)
    token = secrets.token_hex(8)
    dead = peer(token=token, row_token="")
    worker = leftover(tmp_path, f"{token}.1")
    dead.start(dead.record(process_id(worker.pid)), dead.claim(2)[0])
    path = journal_path(runtime_folder(dead.store), dead.owner)
    dead.die()
    with path.open("r+b") as file:
        file.write(b"mpdmark2")
        file.seek(journal_layout.USED_AT)
        file.write(bytes(8))  # it knew nothing of that
        file.seek(journal_layout.PAGE + journal_layout.RECORD_MAGIC_AT)
        file.write(bytes(8))
    house = build()
    first, second = house.ended(started, unstarted)
    assert (first.state, house.causes(started)) == (JobState.FAILED, [Cause.LEASE_LOST])
    assert (second.state, second.attempt, second.starts) == (JobState.COMPLETED, 1, 2)
    assert worker.wait(timeout=5) == -signal.SIGKILL


def test_a_forged_mark_file_gets_nobody_killed_and_nothing_believed(
    build: Build, peer: NewPeer, tmp_path: Path
) -> None:
    (job_id,) = enqueued(tmp_path, 1, max_retries=0)
    dead = peer()
    (job,) = dead.claim(1)
    victim = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
    dead.start(dead.record(process_id(victim.pid)), job)
    dead.die()
    house = build()
    house.ended(job_id)
    assert victim.poll() is None
    victim.kill()
    victim.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_a_process_of_another_user_that_shows_the_token_is_left_alone(
    build: Build, peer: NewPeer, tmp_path: Path
) -> None:
    (job_id,) = enqueued(tmp_path, 1, max_retries=0)
    dead = peer()
    dead.claim(1)
    theirs = subprocess.Popen(
        ["/bin/sleep", "1000"], env={WORKER_VARIABLE: f"{dead.token}.1"}, user=65534, start_new_session=True
    )
    dead.die()
    house = build()
    house.ended(job_id)
    assert theirs.poll() is None
    theirs.kill()
    theirs.wait()


# ---------------------------------------------------------------- the row


def _sql(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "jobs.db", isolation_level=None)) as connection:
        connection.execute(statement)


@pytest.mark.parametrize("owner", ["4711", "-1"])
@pytest.mark.parametrize("max_retries", [0, 1])
def test_a_running_job_of_an_owner_nobody_knows_is_taken_over(
    build: Build, peer: NewPeer, tmp_path: Path, owner: str, max_retries: int
) -> None:
    (job_id,) = enqueued(tmp_path, 1, max_retries=max_retries)
    dead = peer()
    dead.claim(1)
    dead.die()
    _sql(tmp_path, f"UPDATE mpdispatch_jobs SET owner = {owner}")
    _sql(tmp_path, "DELETE FROM mpdispatch_supervisors")
    house = build()
    house.until(lambda: house.causes(job_id))
    house.clock.advance(10)
    (job,) = house.ended(job_id)
    if max_retries:
        assert (job.state, job.attempt, job.starts) == (JobState.COMPLETED, 2, 2)
    else:
        assert (job.state, job.starts) == (JobState.FAILED, 1)
        assert house.store.dead_letter_count() == 1
        assert job.last_error is not None
        assert job.last_error.type == "LeaseLost"
    assert house.causes(job_id)[0] is Cause.LEASE_LOST


def test_a_supervisor_that_was_struck_off_is_taken_over_by_its_mark_file(
    build: Build, peer: NewPeer, tmp_path: Path
) -> None:
    # Somebody has deleted its row: it does not know yet, and its worker runs on.
    started, unstarted = enqueued(tmp_path, 2, max_retries=0)
    token = secrets.token_hex(16)
    other = peer(token=token)
    worker = leftover(tmp_path, f"{token}.1", "cleared")
    other.start(other.record(process_id(worker.pid)), other.claim(2)[0])
    _sql(tmp_path, "DELETE FROM mpdispatch_supervisors")
    house = build()
    first, second = house.ended(started, unstarted)
    assert (first.state, house.causes(started)) == (JobState.FAILED, [Cause.LEASE_LOST])
    assert (second.state, second.attempt, second.starts) == (JobState.COMPLETED, 1, 2)
    assert worker.wait(timeout=5) == -signal.SIGKILL
    until(lambda: not lives(pid_in(tmp_path / "cleared")))


def test_a_running_job_of_an_owner_nobody_knows_can_be_cancelled(
    build: Build, peer: NewPeer, tmp_path: Path
) -> None:
    (job_id,) = enqueued(tmp_path, 1, max_retries=5)
    dead = peer()
    dead.claim(1)
    dead.die()
    _sql(tmp_path, "DELETE FROM mpdispatch_supervisors")
    store = SQLiteStore(tmp_path / "jobs.db", durability="process")
    assert store.cancel(job_id).state is JobState.RUNNING
    store.close()
    house = build()
    assert house.ended(job_id)[0].state is JobState.CANCELLED


def test_a_drain_ends_beside_a_running_job_of_an_owner_nobody_knows(
    build: Build, peer: NewPeer, tmp_path: Path
) -> None:
    (job_id,) = enqueued(tmp_path, 1, max_retries=0)
    dead = peer()
    dead.claim(1)
    dead.die()
    _sql(tmp_path, "UPDATE mpdispatch_jobs SET owner = 4711")
    _sql(tmp_path, "DELETE FROM mpdispatch_supervisors")
    house = build(drain=True)
    report = house.until(lambda: house.report)
    assert (report.exit_code, report.failed) == (1, 1)
    assert house.state(job_id) is JobState.FAILED


# ---------------------------------------------------------------- many workers


def _resident_mib(what: str) -> float:
    return int(Path("/proc/self/status").read_text().split(f"{what}:")[1].split()[0]) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="measured by /proc")
def test_a_take_over_of_a_thousand_workers_takes_a_second_at_most(peer: NewPeer, tmp_path: Path) -> None:
    ids = enqueued(tmp_path, 1000, max_retries=0)
    dead = peer(records=4004)
    jobs = [*dead.claim(500), *dead.claim(500)]
    for job in jobs:
        dead.start(dead.record(), job)
    dead.die()
    store = SQLiteStore(tmp_path / "jobs.db", durability="process")
    supervisor_store = store.supervisor_store()
    folder, catalog = runtime_folder(store), LiveCatalog(engine.registry)
    rescuer = Rescuer(supervisor_store, folder, SystemClock(), catalog, InFlight(), LOG, None, Repeated(LOG))
    supervisor_store.peers(0)
    before = _resident_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is of what follows
    began = time.monotonic()
    assert rescuer.look(0, set()) == ([], True)
    took_s = time.monotonic() - began
    more = _resident_mib("VmHWM") - before
    print(f"{took_s:.2f} s, {more:.0f} MiB")
    assert len(jobs) == len(ids)
    assert store.counts()[JobState.FAILED] == 1000
    assert took_s <= 1.0
    assert more <= 50
    supervisor_store.close()
    store.close()

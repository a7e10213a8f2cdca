"""A dead or stopped supervisor's jobs are taken over: its workers killed first, its marks believed, nothing run twice."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest

from mpdispatch.clock import SECOND_US, SystemClock
from mpdispatch.events.notices import events_of
from mpdispatch.execution.catalog import LiveCatalog
from mpdispatch.hooks import HOOKS, Event, JobCompleted, JobRetrying
from mpdispatch.host.journal_layout import Control
from mpdispatch.host.processes import process_id
from mpdispatch.host.runtime_folder import runtime_folder
from mpdispatch.host.start_journal import journal_path
from mpdispatch.model import (
    Cancelled,
    Cause,
    ClaimedJob,
    ErrorInfo,
    JobState,
    Raised,
    RetryAsked,
    Run,
    Snoozed,
)
from mpdispatch.pool.frames import Done, Ended, Spill, encode
from mpdispatch.pool.process import CONTROL_CANCEL, CONTROL_TIMEOUT
from mpdispatch.repeated import Repeated
from mpdispatch.store.sqlite import SQLiteStore
from mpdispatch.supervisor.event_publisher import EventPublisher
from mpdispatch.supervisor.in_flight import InFlight
from mpdispatch.supervisor.rescue import Rescuer
from tests.pool.app import engine
from tests.pool.probes import lives, no_descriptor_left, pid_in, until
from tests.supervisor.conftest import Build
from tests.supervisor.house import LOG, House
from tests.supervisor.peers import ROOT, Peer, enqueued, leftover


def _gone(house: House) -> bool:
    return [each.id for each in house.store.supervisors()] == [house.owner]


# ---------------------------------------------------------------- dead


def test_a_dead_peers_started_job_is_spent_and_its_unstarted_one_is_not(
    build: Build, peer: Callable[..., Peer], tmp_path: Path
) -> None:
    started, unstarted = enqueued(tmp_path, 2, max_retries=0)
    dead = peer()
    claimed = dead.claim(2)
    assert [job.id for job in claimed] == [started, unstarted]
    dead.start(dead.record(), claimed[0])
    path = journal_path(runtime_folder(dead.store), dead.owner)
    wake = path.with_name(f"wake.{dead.owner}")
    os.mkfifo(wake)
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
    assert not wake.exists()


@pytest.mark.parametrize("evidence", ["no file", "another boot", "not ours"])
def test_without_evidence_every_job_counts_as_started(
    build: Build, peer: Callable[..., Peer], tmp_path: Path, evidence: str
) -> None:
    ids = enqueued(tmp_path, 2, max_retries=0)
    dead = peer(boot="00000000-0000-0000-0000-000000000000") if evidence == "another boot" else peer()
    dead.claim(2)
    path = journal_path(runtime_folder(dead.store), dead.owner)
    dead.die()
    if evidence == "no file":
        path.unlink()
    elif evidence == "not ours":
        path.write_bytes(b"something else")
    house = build()
    for job in house.ended(*ids):
        assert job.state is JobState.FAILED
        assert house.causes(job.id) == [Cause.LEASE_LOST]
    assert house.wiring.in_flight.failed == 2


def test_the_death_of_a_watched_peer_is_noticed_at_once(
    build: Build, peer: Callable[..., Peer], tmp_path: Path
) -> None:
    (job_id,) = enqueued(tmp_path, 1)
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
    (job_id,) = enqueued(tmp_path, 1)
    token = secrets.token_hex(8)
    dead = peer(token=token)
    kinds = ["child", "daemon", "cleared", "marked", "stopped"]
    worker = leftover(tmp_path, f"{token}.1", *kinds)
    dead.start(dead.record(process_id(worker.pid)), dead.claim(1)[0])
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
    (job_id,) = enqueued(tmp_path, 1)
    token = secrets.token_hex(8)
    dead = peer(token=token)
    kinds = ["child", "daemon", "cleared", "marked", "stopped"]
    worker = leftover(tmp_path, f"{token}.1", *kinds)
    dead.start(dead.record(process_id(worker.pid)), dead.claim(1)[0])
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
    (job_id,) = enqueued(tmp_path, 1)
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
    (job_id,) = enqueued(tmp_path, 1)
    dead = peer(token=secrets.token_hex(8))
    stranger = leftover(tmp_path, "another.1", "child")
    real = process_id(stranger.pid)
    dead.record(real._replace(start=real.start - 1))
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

    (job_id,) = enqueued(tmp_path, 1)
    token = secrets.token_hex(8)
    dead = peer(token=token)
    worker = leftover(tmp_path, f"{token}.1")
    dead.start(dead.record(process_id(worker.pid)), dead.claim(1)[0])
    dead.die()
    with monkeypatch.context() as patched:
        patched.setattr(rescue, "kill_leftovers", lambda *_, **__: 1)
        patched.setattr(rescue, "_PATIENCE_S", 0.05)
        house = build()
        house.ready()
        house.clock.advance(2)
        house.steps(3)
        assert house.state(job_id) is JobState.RUNNING
    house.clock.advance(2)
    house.until(lambda: house.causes(job_id) == [Cause.LEASE_LOST])
    worker.wait()


# ---------------------------------------------------------------- answered

RUN = Run(started_us=1_700_000_000_000_000, duration_us=2500, worker_pid=4711, cpu_us=2000, max_rss_bytes=4096)
ERROR = ErrorInfo(type="ValueError", message="as told", traceback="Traceback …")


def _done(job: ClaimedJob, result: bytes = b'"r"') -> Done:
    return Done(job.id, job.starts, RUN, msgspec.Raw(result))


def _ended(job: ClaimedJob, outcome: Raised | RetryAsked | Snoozed | Cancelled | None = None) -> Ended:
    return Ended(job.id, job.starts, outcome or Raised(run=RUN, error=ERROR))


def test_what_a_dead_peers_workers_answered_counts(
    build: Build, peer: Callable[..., Peer], tmp_path: Path
) -> None:
    ids = done, failed, retrying, asked, snoozed, cancelled = [
        *enqueued(tmp_path, 2, max_retries=0),
        *enqueued(tmp_path, 2, max_retries=1),
        *enqueued(tmp_path, 2, max_retries=0),
    ]
    dead = peer()
    jobs = dead.claim(6)
    assert [job.id for job in jobs] == ids
    record, other = dead.record(), dead.record()
    for number, job in enumerate(jobs):
        dead.start((record, other)[number % 2], job)
    later = 3600 * SECOND_US
    dead.say(record, _done(jobs[0]))
    dead.say(other, _ended(jobs[1]))
    dead.say(record, _ended(jobs[2]))
    dead.say(other, _ended(jobs[3], RetryAsked(run=RUN, error=ERROR, delay_us=later)))
    dead.say(record, _ended(jobs[4], Snoozed(run=RUN, delay_us=later)))
    dead.say(other, _ended(jobs[5], Cancelled(run=RUN, error=ERROR)))
    dead.die()
    house = build()
    house.until(lambda: house.causes(done))
    job = house.job(done)
    assert (job.state, job.result, job.attempt, job.starts) == (JobState.COMPLETED, "r", 1, 1)
    assert house.causes(done) == [Cause.COMPLETED]
    attempt = house.attempt(done)
    assert (attempt.worker_pid, attempt.cpu_s, attempt.max_rss_bytes) == (4711, 0.002, 4096)
    assert attempt.duration_s == 0.0025
    causes = {Cause.ERROR: (failed, retrying), Cause.RETRY: (asked,), Cause.SNOOZE: (snoozed,)}
    for cause, of in {**causes, Cause.CANCELLED: (cancelled,)}.items():
        assert [house.causes(job_id)[0] for job_id in of] == [cause] * len(of)
    assert house.state(failed) is JobState.FAILED
    assert house.job(failed).last_error == ERROR
    assert house.state(asked) is JobState.RETRYING
    assert (house.state(snoozed), house.job(snoozed).attempt) == (JobState.SCHEDULED, 0)
    assert house.state(cancelled) is JobState.CANCELLED
    assert (house.wiring.in_flight.completed, house.wiring.in_flight.failed) == (1, 1)
    assert _gone(house)
    # Its own backoff, as in life; and then it starts once more.
    assert house.job(retrying).starts == 1
    house.clock.advance(10)
    assert house.ended(retrying)[0].starts == 2


@pytest.mark.parametrize("said", ["of another start", "of another job", "in a spill", "half"])
def test_what_is_no_answer_to_this_start_leaves_it_lost(
    build: Build, peer: Callable[..., Peer], tmp_path: Path, said: str
) -> None:
    (job_id,) = enqueued(tmp_path, 1, max_retries=0)
    dead = peer()
    (job,) = dead.claim(1)
    record = dead.record()
    dead.start(record, job)
    done = _done(job)
    match said:
        case "of another start":
            dead.say(record, Done(job.id, job.starts + 1, RUN, done.result))
        case "of another job":
            dead.say(record, Done(job.id + 1, job.starts, RUN, done.result))
        case "in a spill":
            dead.say(record, Spill(1))
        case "half":
            assert record.reply_writer().put(encode(done)[:-1] + b"\n")
    dead.die()
    house = build()
    (ended,) = house.ended(job_id)
    assert ended.state is JobState.FAILED
    assert house.causes(job_id) == [Cause.LEASE_LOST]
    assert house.wiring.in_flight.completed == 0


def test_a_line_that_says_nothing_is_named_and_stops_no_rescue(
    build: Build, peer: Callable[..., Peer], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (job_id,) = enqueued(tmp_path, 1, max_retries=0)
    dead = peer()
    (job,) = dead.claim(1)
    record = dead.record()
    assert record.reply_writer().put(b"\xff{]\n")
    dead.say(record, _done(job))
    dead.die()
    house = build()
    assert house.ended(job_id)[0].state is JobState.COMPLETED
    assert [record.lines for record in caplog.records if "junk" in record.message] == [1]  # type: ignore[attr-defined]


def test_answers_of_another_boot_are_no_evidence(
    build: Build, peer: Callable[..., Peer], tmp_path: Path
) -> None:
    (job_id,) = enqueued(tmp_path, 1, max_retries=0)
    dead = peer(boot="00000000-0000-0000-0000-000000000000")
    (job,) = dead.claim(1)
    dead.say(dead.record(), _done(job))
    dead.die()
    house = build()
    house.ended(job_id)
    assert house.causes(job_id) == [Cause.LEASE_LOST]


def test_an_answer_given_while_the_rescuer_looked_counts(
    build: Build, peer: Callable[..., Peer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mpdispatch.supervisor import rescue

    (job_id,) = enqueued(tmp_path, 1, max_retries=0)
    token = secrets.token_hex(8)
    dead = peer(token=token)
    (job,) = dead.claim(1)
    worker = leftover(tmp_path, f"{token}.1")
    record = dead.record(process_id(worker.pid))
    dead.start(record, job)
    real, said = rescue.kill_leftovers, list[bool]()

    def answers_first(*args: Any, **options: Any) -> int:
        if not said:
            dead.say(record, _done(job))
            said.append(True)
        return real(*args, **options)

    monkeypatch.setattr(rescue, "kill_leftovers", answers_first)
    dead.process.kill()
    dead.process.wait()  # its file stays open: the worker writes into it still
    house = build()
    assert house.ended(job_id)[0].state is JobState.COMPLETED
    worker.wait()


@pytest.mark.parametrize(
    ("asked", "is_cancel_requested", "answer", "expected"),
    [
        (CONTROL_TIMEOUT, False, "done", (JobState.FAILED, Cause.TIMEOUT)),
        (CONTROL_TIMEOUT, True, "error", (JobState.FAILED, Cause.TIMEOUT)),
        (CONTROL_CANCEL, True, "done", (JobState.COMPLETED, Cause.COMPLETED)),
        (CONTROL_CANCEL, True, "error", (JobState.CANCELLED, Cause.CANCELLED)),
        (CONTROL_CANCEL, False, "error", (JobState.FAILED, Cause.ABORTED)),
        (None, True, "done", (JobState.COMPLETED, Cause.COMPLETED)),
        (None, True, "error", (JobState.FAILED, Cause.ERROR)),
        (None, True, "retry", (JobState.FAILED, Cause.RETRY)),
        (None, True, "snooze", (JobState.CANCELLED, Cause.SNOOZE)),
    ],
)
def test_an_answer_is_decided_as_its_supervisor_would_have(
    build: Build,
    peer: Callable[..., Peer],
    tmp_path: Path,
    asked: int | None,
    is_cancel_requested: bool,
    answer: str,
    expected: tuple[JobState, Cause],
) -> None:
    (job_id,) = enqueued(tmp_path, 1, max_retries=0, timeout_us=2 * SECOND_US)
    dead = peer()
    (job,) = dead.claim(1)
    record = dead.record()
    dead.start(record, job)
    if is_cancel_requested:
        dead.store.cancel(job_id)
    if asked is not None:
        record.ask(Control(job.id, job.starts, asked))
    otherwise = {
        "error": Raised(run=RUN, error=ERROR),
        "retry": RetryAsked(run=RUN, error=ERROR, delay_us=0),
        "snooze": Snoozed(run=RUN, delay_us=0),
    }
    dead.say(record, _done(job) if answer == "done" else _ended(job, otherwise[answer]))
    dead.die()
    house = build()
    (ended,) = house.ended(job_id)
    assert (ended.state, *house.causes(job_id)) == expected
    if asked == CONTROL_TIMEOUT:
        assert ended.last_error is not None
        assert ended.last_error.message == "ran longer than its timeout of 2 s"


def test_extensions_hear_of_jobs_that_a_dead_peers_workers_had_done(
    peer: Callable[..., Peer], tmp_path: Path
) -> None:
    done, lost, cancelled = enqueued(tmp_path, 3, max_retries=1)
    dead = peer()
    jobs = dead.claim(3)
    record = dead.record()
    for job in jobs:
        dead.start(record, job)
    dead.say(record, _done(jobs[0]))
    dead.say(record, _ended(jobs[2]))
    dead.store.cancel(cancelled)
    dead.die()
    heard: list[Event] = []
    sink = Mock(offer=lambda notices, count: heard.extend(e for n in notices for e in events_of(n)))
    publisher = EventPublisher(sink, frozenset(HOOKS.values()), SystemClock())
    store = SQLiteStore(tmp_path / "jobs.db", durability="process")
    supervisor_store = store.supervisor_store()
    catalog, in_flight, clock = LiveCatalog(engine.registry), InFlight(), SystemClock()
    folder, repeats = runtime_folder(store), Repeated(LOG)
    rescuer = Rescuer(supervisor_store, folder, clock, catalog, in_flight, LOG, publisher, repeats)
    try:
        assert rescuer.look(0, set()) == ([], True)
    finally:
        supervisor_store.close()
        store.close()
    assert [(type(event), event.job_id) for event in heard] == [(JobCompleted, done), (JobRetrying, lost)]  # type: ignore[union-attr]
    assert isinstance(heard[0], JobCompleted)
    assert (heard[0].worker_pid, heard[0].duration_s) == (4711, 0.0025)


def test_a_supervisor_that_joins_anew_counts_what_its_own_workers_had_answered(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The store was not writable until its lease ran out: nothing it had heard is on disk.
    job_id = house.enqueue("hold", {"max_retries": 0}, started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    before = house.owner
    foreign = house.lock()
    (tmp_path / "gate").touch()
    house.until(lambda: house.wiring.in_flight.pending)
    with house.out_of_reach():
        foreign.close()
        house.until(lambda: house.owner != before)
    (job,) = house.ended(job_id)
    assert (job.state, job.starts) == (JobState.COMPLETED, 1)
    assert house.causes(job_id) == [Cause.COMPLETED]
    assert house.wiring.in_flight.completed == 1


# ---------------------------------------------------------------- alive or stopped


def test_a_living_peers_jobs_are_its_own(build: Build, peer: Callable[..., Peer], tmp_path: Path) -> None:
    (job_id,) = enqueued(tmp_path, 1)
    other = peer()
    other.claim(1)
    other.stop()  # stopped, and within its lease
    house = build()
    house.ready()
    house.clock.advance(2)
    house.steps(10)
    assert house.state(job_id) is JobState.RUNNING
    assert len(house.store.supervisors()) == 2


def test_a_peer_that_cannot_be_seen_for_want_of_a_descriptor_is_not_dead(
    build: Build, peer: Callable[..., Peer], tmp_path: Path
) -> None:
    (job_id,) = enqueued(tmp_path, 1)
    other = peer()
    other.claim(1)
    house = build()
    house.ready()
    with no_descriptor_left():
        house.wiring.peers.look_soon()
        house.steps(10)
    assert house.state(job_id) is JobState.RUNNING
    assert len(house.store.supervisors()) == 2
    other.die()
    with no_descriptor_left():
        house.wiring.peers.look_soon()
        house.steps(10)
    assert house.state(job_id) is JobState.RUNNING, "what it left behind could not be read or killed"
    house.clock.advance(2)
    house.ended(job_id)


def test_a_stopped_peer_past_its_lease_is_taken_over_and_its_workers_killed(
    build: Build, peer: Callable[..., Peer], tmp_path: Path
) -> None:
    started, unstarted = enqueued(tmp_path, 2)
    token = secrets.token_hex(8)
    other = peer(token=token, lease_s=5.0)
    claimed = other.claim(2)
    worker = leftover(tmp_path, f"{token}.1", "marked")
    other.start(other.record(process_id(worker.pid)), claimed[0])
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
from tests.supervisor.house import LOG, House
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
    (job_id,) = enqueued(tmp_path, 1)
    other = peer()
    other.claim(1)
    house = build(config={"poll_interval": 30})
    house.ready()
    house.steps(5)
    foreign = house.lock()
    other.die()
    house.steps(5)
    assert house.runtime.selector.select(0.05) == []
    foreign.close()
    house.ended(job_id)

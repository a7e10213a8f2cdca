"""Whoever is killed, stopped or locked out: jobs end once, never run twice at the same time, and go on soon."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import Counter
from typing import Any

import pytest

from mpdispatch.host.journal_reader import JournalReader
from tests.whole.harness import Place, Process, boottime_ns, is_alive, overlaps, state_of, until


def all_gone(pids: list[int], since_ns: int) -> float:
    """Milliseconds from then until all are dead."""
    until(lambda: not any(map(is_alive, pids)), f"{pids} are dead", within=5, every=0.0005)
    return (boottime_ns() - since_ns) / 1e6


def test_the_job_of_a_killed_worker_starts_again_within_half_a_second(place: Place) -> None:
    place.supervising("-c", "2")
    gaps = []
    for round_ in range(5):
        job_id = place.app.die_first_time.options(max_retries=1).enqueue(f"marker{round_}").id
        pid = place.started(job_id)[3]
        killed = boottime_ns()
        os.kill(pid, signal.SIGKILL)
        gaps.append((place.started(job_id, 2)[4] - killed) / 1e6)
        job = place.complete(job_id)
        assert (job.result, job.attempt) == ("second time", 2)
        assert [a["cause"] for a in place.show(job_id)["attempts"]] == ["worker_died", "completed"]
    print("started again after", ", ".join(f"{gap:.0f}" for gap in gaps), "ms")
    assert sorted(gaps)[2] <= 500


def test_workers_die_with_their_supervisor(place: Place) -> None:
    """Busy ones, one inside C with the GIL held, and a stopped one."""
    lasted = []
    for round_ in range(3):
        supervisor = place.supervising("-c", "3")
        ids = [
            place.app.until_file.options(max_retries=0).enqueue("never").id,
            place.app.spin_in_c.enqueue().id,
            place.app.stop_self.enqueue().id,
        ]
        for job_id in ids:
            place.started(job_id)
        workers = supervisor.workers
        assert {place.started(job_id)[3] for job_id in ids} <= set(workers)
        killed = boottime_ns()
        supervisor.kill()
        lasted.append(all_gone(workers, killed))
        place.drain()  # the next one says what became of the jobs
        assert [str(place.job(job_id).state) for job_id in ids] == ["failed"] * 3, round_
    print("workers dead after", ", ".join(f"{ms:.1f}" for ms in lasted), "ms")
    assert max(lasted) <= 1000
    assert place.left_over() == []


def test_a_neighbour_takes_over_within_a_second(place: Place) -> None:
    one, other = pair(place)
    job_id = place.app.until_file.options(max_retries=1).enqueue("go").id
    pid = place.started(job_id)[3]
    victim, heir = (one, other) if pid in one.workers else (other, one)
    workers = victim.workers
    killed = boottime_ns()
    victim.kill()
    again = place.started(job_id, 2)
    (place.folder / "go").touch()
    print(f"taken over after {(again[4] - killed) / 1e6:.0f} ms")
    assert again[4] - killed <= 1_000_000_000
    assert not any(map(is_alive, workers))
    assert again[3] in heir.workers
    assert place.complete(job_id).attempt == 2
    assert not overlaps(place.records, {pid: again[4]})


def pair(place: Place) -> tuple[Process, Process]:
    """Two supervisors, both with a worker."""
    one = place.supervising("-c", "2")
    other = place.supervise("-c", "2")
    until(lambda: "registered" in other.err and other.workers, "the second supervisor is up")
    return one, other


def test_every_acknowledged_job_completes_after_its_supervisor_was_killed_mid_drain(place: Place) -> None:
    ids = list(place.app.nap.options(max_retries=50).enqueue_many({"s": 0.005} for _ in range(300)))
    deaths: dict[int, int] = {}
    for _ in range(4):
        supervisor = place.supervise("--drain", "-c", "2")
        done = place.counts()["completed"]
        until(lambda done=done: place.counts()["completed"] > done + 20, "it makes headway")  # type: ignore[misc]
        workers = supervisor.workers
        killed = boottime_ns()
        supervisor.kill()
        ms = all_gone(workers, killed)
        deaths.update(dict.fromkeys(workers, boottime_ns()))
        assert ms <= 1000
        if not place.unended():
            break
    assert place.drain("-c", "2") == 0
    assert {str(place.job(job_id).state) for job_id in ids} == {"completed"}
    assert not overlaps(place.records, deaths)
    starts = [row for row in place.records if row[0] == "start"]
    hit = {row[1] for row in starts if row[3] in deaths}
    repeated = {job_id for job_id in ids if sum(row[1] == job_id for row in starts) > 1}
    assert repeated <= hit
    place.assert_sound()


def test_a_killed_supervisor_spends_no_attempt_of_what_it_had_not_started(place: Place) -> None:
    """A hundred jobs without a retry, claimed and waiting behind one that runs on."""
    supervisor = place.supervising("-c", "1", max_prefetch=256, prefetch_window=0.5)
    for job_id in place.app.once.enqueue_many({"s": 0} for _ in range(300)):  # it learns that they are short
        place.complete(job_id)
    stuck, *waiting = place.app.once.enqueue_many([{"s": 60}, *({"s": 0} for _ in range(100))])
    place.started(stuck)
    held = until(lambda: (n := place.counts()["running"]) > 20 and n, "it holds jobs it has not started")
    print(f"held when killed: {held}")
    supervisor.kill()
    assert place.drain("-c", "2") == 1
    assert str(place.job(stuck).state) == "failed"
    assert place.job(stuck).last_error.type == "SupervisorDied"
    assert {str(place.job(job_id).state) for job_id in waiting} == {"completed"}
    assert all(place.job(job_id).attempt == 1 for job_id in waiting)
    assert all(len(place.starts_of(job_id)) == 1 for job_id in [stuck, *waiting])


def _last_marks(place: Place) -> set[int]:
    """The job each worker of dead supervisors marked last, once those workers are gone."""
    found: set[int] = set()
    for path in (place.folder / "jobs.db-mpd").glob("marks.*"):
        reader = JournalReader(path)
        workers = [worker.pid for worker in reader.workers()]
        reader.close()
        until(lambda workers=workers: not any(map(is_alive, workers)), "the end of its workers")  # type: ignore[misc]
        reader = JournalReader(path)
        found |= {mark.job_id for mark in reader.latest().values() if mark is not None}
        reader.close()
    return found


@pytest.mark.parametrize("nap_s", [0, 0.002])
def test_only_what_ran_when_its_supervisor_was_killed_is_lost(place: Place, nap_s: float) -> None:
    """Jobs without a retry: what their workers had answered counts, heard of or not, written or not."""
    ids = list(place.app.once.enqueue_many({"s": nap_s} for _ in range(4000 if nap_s == 0 else 800)))
    marked_last: set[int] = set()
    for pause in (0.02, 0.03, 0.05, 0.07, 0.1):
        supervisor = place.supervise("-c", "2", max_prefetch=64)
        done = place.counts()["completed"]
        until(lambda done=done: place.counts()["completed"] > done + 10, "it makes headway")  # type: ignore[misc]
        time.sleep(pause)  # the moment of the kill is what varies here
        supervisor.kill()
        supervisor.popen.wait()
        marked_last |= _last_marks(place)
    assert place.unended(), "killed under load, to its last"
    place.drain("-c", "2")
    jobs = {job["id"]: job for job in place.json("jobs", "--all")}
    assert {jobs[job_id]["state"] for job_id in ids} <= {"completed", "failed"}
    starts = Counter(row[1] for row in place.records if row[0] == "start")
    ends = {row[1] for row in place.records if row[0] == "end"}
    assert max(starts.values()) == 1
    failed = {job_id for job_id in ids if jobs[job_id]["state"] == "failed"}
    assert {jobs[job_id]["last_error"]["type"] for job_id in failed} <= {"SupervisorDied"}
    # A kill may fall between a start's mark, the mark's count and the first line, as between the last line and the
    # answer. A mark that is not counted is not the latest, but has no line either.
    assert failed & starts.keys() <= marked_last, "lost, though its worker had gone on to another"
    assert len(failed - starts.keys()) <= 10, "at most one for each killed worker"
    assert set(ids) - failed <= ends
    print(len(failed), "failed of", len(ids), "; ended, but not answered:", len(failed & ends))


_LONG = 20_000
"""Characters of a result that goes through the channel, which ends with its supervisor."""


def _woken_too_late(place: Place, size: int) -> tuple[Any, list[str]]:
    """A job its worker ended while the supervisor was stopped, once that woke up; and the causes of its attempts."""
    lease = {"stale_job_threshold": 1, "heartbeat_interval": 0.3}
    sleeper = place.supervising("-c", "1", **lease)
    job_id = place.app.until_file.options(max_retries=2).enqueue("go", size).id
    first = place.started(job_id)
    sleeper.kill(signal.SIGSTOP)
    (place.folder / "go").touch()
    until(lambda: _has_ended(place, job_id) and state_of(first[3]) == "S", "its worker ends the job unheard")
    heir = place.supervise("-c", "1", **lease)
    job = place.complete(job_id)
    assert not is_alive(first[3])
    before = place.show(job_id)
    sleeper.kill(signal.SIGCONT)
    until(lambda: sleeper.err.count("registered") == 2, "the sleeper joins anew")
    more = [place.app.quick.enqueue(n=n).id for n in range(20)]
    assert [place.complete(i).result for i in more] == list(range(20))
    assert place.show(job_id) == before
    assert len(place.starts_of(job_id)) == job.starts
    for each in (sleeper, heir):
        each.kill(signal.SIGTERM)
        assert each.ended() == 0
    return job, [attempt["cause"] for attempt in before["attempts"]]


def _has_ended(place: Place, job_id: int) -> bool:
    return any(row[:3] == ("end", job_id, 1) for row in place.records)


def test_a_stopped_supervisor_that_wakes_too_late_writes_nothing(place: Place) -> None:
    """Its worker even finishes the job meanwhile; but it said so to nobody else, so the neighbour has run it."""
    job, causes = _woken_too_late(place, _LONG)
    assert (job.starts, job.attempt) == (2, 2)
    assert causes == ["lease_lost", "completed"]


def test_what_the_worker_of_a_stopped_supervisor_answered_counts(place: Place) -> None:
    job, causes = _woken_too_late(place, 0)
    assert (job.result, job.starts, job.attempt) == ("go", 1, 1)
    assert causes == ["completed"]


def _past_its_lease(place: Place) -> bool:
    ((until_us,),) = place.sql("SELECT lease_until_boot_us FROM mpdispatch_supervisors")
    return boottime_ns() // 1000 > until_us


@pytest.mark.parametrize("who", ["the supervisor", "all of them"])
def test_a_pause_with_nobody_else_there_ends_no_job(place: Place, who: str) -> None:
    """As when a laptop's lid is closed for longer than the lease holds."""
    sleeper = place.supervising("-c", "3", stale_job_threshold=1, heartbeat_interval=0.3)
    ids = [place.app.until_file.options(max_retries=0).enqueue("go").id for _ in range(2)]
    pids = {place.started(job_id)[3] for job_id in ids}
    stopped = [sleeper.pid, *(sleeper.workers if who == "all of them" else ())]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    until(lambda: _past_its_lease(place), "its lease is over", every=0.05)
    for pid in reversed(stopped):
        os.kill(pid, signal.SIGCONT)
    assert place.complete(place.app.quick.enqueue(n=1).id).result == 1
    assert all(map(is_alive, pids))
    (place.folder / "go").touch()
    for job_id in ids:
        job = place.complete(job_id)
        assert (job.starts, job.attempt) == (1, 1)
    assert sleeper.err.count("registered") == 1
    sleeper.kill(signal.SIGTERM)
    assert sleeper.ended() == 0


@pytest.mark.parametrize("how", ["removed", "its header zeroed"])
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_job_never_runs_twice_at_once_though_the_mark_file_is_lost(
    place: Place, how: str, number: signal.Signals
) -> None:
    lease = {"stale_job_threshold": 1, "heartbeat_interval": 0.3}
    first = place.supervising("-c", "1", **lease)
    # A command job's program is a child that its worker's death would leave at work.
    script = (
        'echo start $$ >> "$0"; i=0; while [ $i -lt 30 ]; do echo run $$ >> "$0"; sleep 0.1; i=$((i+1)); done'
    )
    job_id = place.app.shell.options(max_retries=2).enqueue(script, "ran").id
    until(lambda: (place.folder / "ran").exists() and "run" in (place.folder / "ran").read_text(), "it runs")
    (path,) = (place.folder / "jobs.db-mpd").glob("marks.*")
    if how == "removed":
        path.unlink()
    else:
        with path.open("r+b") as file:
            file.write(bytes(4096))
    first.kill(number)
    place.supervise("-c", "1", **lease)
    until(lambda: _programs(place)[1:], "it runs again")
    place.complete(job_id)
    lines = [line.split()[1] for line in (place.folder / "ran").read_text().splitlines()]
    runs = [pid for pid, before in zip(lines, [None, *lines], strict=False) if pid != before]
    assert len(runs) == len(set(runs)) == 2, "one after the other"


def _programs(place: Place) -> list[str]:
    lines = (place.folder / "ran").read_text().splitlines()
    return [line.split()[1] for line in lines if line.startswith("start")]


def test_a_running_job_of_an_owner_nobody_knows_hangs_no_drain(place: Place) -> None:
    first = place.supervising("-c", "1")
    job_id = place.app.until_file.options(max_retries=1).enqueue("go").id
    place.started(job_id)
    first.kill()
    first.popen.wait()
    place.sql("UPDATE mpdispatch_jobs SET owner = 4711 WHERE owner IS NOT NULL")
    place.sql("DELETE FROM mpdispatch_supervisors")
    (place.folder / "go").touch()
    assert place.drain("-c", "1") == 0
    assert place.complete(job_id).attempt == 2


# ---------------------------------------------------------------- files beside the store


def test_a_side_folder_that_is_deleted_costs_no_job(place: Place) -> None:
    supervisor = place.supervising("-c", "1", heartbeat_interval=1)
    job_id = place.app.until_file.options(max_retries=0).enqueue("go").id
    place.started(job_id)
    (marks,) = (place.folder / "jobs.db-mpd").glob("marks.*")
    shutil.rmtree(place.folder / "jobs.db-mpd")
    # Clients and the supervisor use the same lock, bell and start journal again.
    until(marks.exists, "it is made anew")
    (place.folder / "go").touch()
    assert place.complete(job_id).starts == 1
    for n in range(5):
        assert place.complete(place.app.quick.enqueue(n=n).id).starts == 1
    assert "side folder" not in place.cli("doctor", "--store", "jobs.db").stdout
    supervisor.kill()
    assert place.drain("-c", "1") == 0


@pytest.mark.parametrize("size", [0, 5000])
def test_a_mark_file_that_is_cut_does_not_end_its_supervisor(place: Place, size: int) -> None:
    supervisor = place.supervising("-c", "1")
    job_id = place.app.until_file.options(max_retries=1).enqueue("go").id
    place.started(job_id)
    (path,) = (place.folder / "jobs.db-mpd").glob("marks.*")
    os.truncate(path, size)
    (place.folder / "go").touch()
    place.complete(job_id)
    assert place.complete(place.app.quick.enqueue().id).starts == 1
    assert supervisor.popen.poll() is None
    supervisor.kill(signal.SIGTERM)
    assert supervisor.ended() == 0


# ---------------------------------------------------------------- locked out


def test_a_foreign_writer_delays_no_timeout(place: Place) -> None:
    """Killed on time while somebody else holds the file; recorded once it is free."""
    place.supervising("-c", "2")
    job_id = place.app.ignore_everything.options(timeout=1).enqueue().id
    _, _, _, pid, started = place.started(job_id)
    holder = place.hold_write_lock()
    until(lambda: not is_alive(pid), "the worker is dead", within=5)
    late = (boottime_ns() - started) / 1e9 - 1
    print(f"killed {late:.2f} s after its timeout of 1 s (grace 0.3 s)")
    assert late <= 1.0
    until(lambda: boottime_ns() - started > 5_000_000_000, "the lock was held for 4 s more")
    assert str(place.job(job_id).state) == "running"
    holder.kill()
    job = place.ended(job_id, "failed", within=3)
    assert job.last_error.type == "JobTimeout"
    assert (job.completed_at - job.started_at).total_seconds() < 2.5, (
        "when it was decided, not when it was written"
    )
    assert place.complete(place.app.quick.enqueue().id)


def test_a_foreign_writer_longer_than_the_lease_leaves_one_outcome(place: Place) -> None:
    """It cannot renew, so it stops trusting itself: kills its workers, and starts over when the file is free."""
    supervisor = place.supervising("-c", "1", stale_job_threshold=1, heartbeat_interval=0.3)
    job_id = place.app.until_file.options(max_retries=3).enqueue("go").id
    pid = place.started(job_id)[3]
    holder = place.hold_write_lock()
    until(lambda: not is_alive(pid), "it kills its worker when the trust ends", within=3)
    holder.kill()
    place.started(job_id, 2)
    (place.folder / "go").touch()
    assert place.complete(job_id).starts == 2
    assert supervisor.popen.poll() is None
    place.assert_sound()

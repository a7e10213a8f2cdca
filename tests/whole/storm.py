"""A kill storm over two supervisors, and the judge of what it left: records, store and kill log."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.whole.harness import Place, Process, boottime_ns, descendants, is_alive, overlaps


@dataclass
class Storm:
    """What was killed and when."""

    seed: int
    deaths: dict[int, int] = field(default_factory=dict)
    """pid of a worker -> boottime ns from which it was surely dead."""
    worker_kills: int = 0
    supervisor_kills: int = 0
    seconds: float = 0.0


def rage(place: Place, *, seed: int, jobs: int, within: float, **env: object) -> Storm:
    """Enqueue so many short jobs, kill until they are done, then drain. Prints the seed."""
    dice = random.Random(seed)
    storm = Storm(seed)
    print(f"storm seed {seed}")
    handle = place.app.nap.options(max_retries=1000)
    ids: list[int] = []
    begun = time.monotonic()
    supervisors = [place.supervise("-c", "3", **env) for _ in range(2)]
    every = jobs // 10
    place.app.engine.enqueue("nap")  # the store is there from now on
    while len(ids) < jobs or place.unended():
        if time.monotonic() - begun > within:
            raise AssertionError(
                f"seed {seed}: {place.counts()} after {within} s\n{supervisors[0].err[-2000:]}"
            )
        if len(ids) < jobs:  # some are enqueued while the storm is on
            ids += handle.enqueue_many({"s": dice.choice((0.0, 0.001, 0.005, 0.02))} for _ in range(every))
        _let_some_end(place, dice.randrange(10, jobs // 20))
        which = dice.randrange(2)
        if supervisors[which].popen.poll() is not None:
            assert _was_hit(supervisors[which]), (seed, supervisors[which].err[-2000:])
            supervisors[which] = place.supervise("-c", "3", **env)
        if dice.random() < 0.75:
            _kill_worker(supervisors[which], storm, dice)
        elif dice.random() < 0.5:
            _kill_supervisor(supervisors[which], storm)
            supervisors[which] = place.supervise("-c", "3", **env)
    storm.seconds = time.monotonic() - begun
    for supervisor in supervisors:
        supervisor.kill(signal.SIGTERM)
    codes = [supervisor.ended(30) for supervisor in supervisors]
    for code, supervisor in zip(codes, supervisors, strict=True):
        # One that was started a moment ago may not listen to signals yet: then it has done nothing either.
        is_new = code == -signal.SIGTERM and not supervisor.err
        assert code == 0 or is_new or _was_hit(supervisor), (seed, code, supervisor.err[-2000:])
    judge(place, storm, ids)
    return storm


def _let_some_end(place: Place, some: int) -> None:
    """Wait for so many ends, or a second: the storm keeps step with the machine, busy or not."""
    enough, latest = place.counts()["completed"] + some, time.monotonic() + 1
    while time.monotonic() < latest and place.unended() and place.counts()["completed"] < enough:
        time.sleep(0.01)


def _was_hit(supervisor: Process) -> bool:
    """Whether it gave up because its first workers were killed one after the other."""
    return supervisor.popen.returncode == 70 and "killed by SIGKILL while importing" in supervisor.err


def _kill_worker(supervisor: Process, storm: Storm, dice: random.Random) -> None:
    workers = supervisor.workers
    if not workers:
        return
    victim = dice.choice(workers)
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return
    storm.worker_kills += 1
    _note_deaths(storm, [victim])


def _kill_supervisor(supervisor: Process, storm: Storm) -> None:
    supervisor.kill(signal.SIGSTOP)  # no worker may be started between the look and the kill
    workers = descendants(supervisor.pid)
    supervisor.kill()
    supervisor.popen.wait()
    storm.supervisor_kills += 1
    _note_deaths(storm, workers)


def _note_deaths(storm: Storm, pids: list[int]) -> None:
    deadline = time.monotonic() + 2
    waiting = set(pids)
    while waiting and time.monotonic() < deadline:
        waiting = {pid for pid in waiting if is_alive(pid)}
    assert not waiting, f"seed {storm.seed}: {waiting} live on"
    now = boottime_ns()
    storm.deaths.update(dict.fromkeys(pids, now))


def judge(place: Place, storm: Storm, ids: list[int]) -> None:
    """Nothing lost, nothing repeated but by a kill, nothing twice at once, nothing left over."""
    blame = f"seed {storm.seed}"
    jobs = {job["id"]: job for job in place.json("jobs", "--all")}
    lost = [job_id for job_id in ids if jobs.get(job_id, {}).get("state") != "completed"]
    assert not lost, (blame, [jobs.get(i) for i in lost[:5]])
    records = place.records
    ran = Counter(row[1] for row in records if row[0] == "start")
    ended = Counter(row[1] for row in records if row[0] == "end")
    assert all(ended[job_id] for job_id in ids), (blame, "completed without having run to its end")
    assert not overlaps(records, {**storm.deaths}), (blame, overlaps(records, storm.deaths)[:5])
    # A second start is forced only if a kill hit the first one, or came before its outcome was on disk.
    forced = {(row[1], row[2]) for row in records if row[0] == "start" and row[3] in storm.deaths}
    last = {}
    for row in records:
        if row[0] == "start":
            last[row[1]] = max(row[2], last.get(row[1], 0))
    unforced = [
        row for row in records if row[0] == "start" and row[2] < last[row[1]] and (row[1], row[2]) not in forced
    ]
    assert not unforced, (blame, unforced[:5])
    repeats = sum(ran[job_id] - 1 for job_id in ids)
    print(
        f"{len(ids)} jobs in {storm.seconds:.1f} s; {storm.worker_kills} workers and "
        f"{storm.supervisor_kills} supervisors killed; {repeats} forced repeats"
    )
    place.assert_sound()
    assert place.left_over() == [], blame

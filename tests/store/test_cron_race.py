"""Many processes decide about the same entries at once and are killed meanwhile: each slot makes exactly one job."""

from __future__ import annotations

import multiprocessing
import random
import signal
import sqlite3
from contextlib import closing, suppress
from itertools import count
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from pathlib import Path

from mpdispatch.clock import SECOND_US
from mpdispatch.errors import StoreBusy
from mpdispatch.failpoints import arm
from mpdispatch.model import CronDecision, CronEntry, CronSpec, Firing, NewCron, NewJob
from mpdispatch.store import SQLiteStore

SPAWN = multiprocessing.get_context("spawn")
START_US = 1_750_000_000 * SECOND_US
NAMES = ("a", "b", "c")
POINTS = ("cron_decide.after_fire", "cron_decide.before_commit", "cron_decide.after_commit")
KILLS = 9


def decision(entry: CronEntry, chance: random.Random) -> CronDecision:
    """Fire the next slots, a second apart; now and then also some that fired before, as if the clock was set back."""
    until_us = entry.decided_until_us
    first_us = max(until_us - (5 * SECOND_US if chance.random() < 0.2 else 0), entry.enabled_at_us) + SECOND_US
    last_us = until_us + chance.randint(1, 3) * SECOND_US
    return CronDecision(
        cron_id=entry.id,
        revision=entry.revision,
        fires=[Firing(slot_us, slot_us) for slot_us in range(first_us, last_us + 1, SECOND_US)],
        closes=[firing.slot_us for firing in entry.open[:-3]],
        decided_until_us=last_us,
        next_slot_us=last_us + SECOND_US,
    )


def _supervise(path: str, seed: int, point: str, stop: Event) -> None:
    """Decide about all entries again and again, until told to stop or killed at the failpoint."""
    crons, chance = SQLiteStore(path).supervisor_store().crons, random.Random(seed)
    arm(point)
    while not stop.is_set():
        with suppress(StoreBusy):
            for entry in crons.entries():
                crons.decide(decision(entry, chance))


def test_each_slot_makes_one_job_whoever_is_killed(path: Path) -> None:
    store = SQLiteStore(path)
    for name in NAMES:
        job = NewJob(name=name, payload=b'{"n":"' + b"x" * 2000 + b'"}')
        spec = CronSpec(name=name, schedule="@every 1s", tz="UTC", job=job)
        store.crons.add(
            NewCron(spec=spec, origin="user", decided_until_us=START_US, next_slot_us=START_US + SECOND_US)
        )
    store.close_all()
    stop, seeds = SPAWN.Event(), count()

    def start() -> SpawnProcess:
        seed = next(seeds)
        point = f"{POINTS[seed % len(POINTS)]}:kill@{1 + seed * 7 % 20}" if seed < KILLS else ""
        process = SPAWN.Process(target=_supervise, args=(str(path), seed, point, stop))
        process.start()
        return process

    running = [start() for _ in range(4)]
    killed = 0
    while killed < KILLS:
        ended = wait([process.sentinel for process in running], timeout=60)
        assert ended, "nobody was killed"
        for process in [each for each in running if each.sentinel in ended]:
            process.join()
            assert process.exitcode == -signal.SIGKILL
            killed += 1
            running.remove(process)
            running.append(start())
    stop.set()
    for process in running:
        process.join(60)
    assert {process.exitcode for process in running} == {0}
    fired = _fired(path)
    for entry in store.crons.entries():
        slots = range(START_US + SECOND_US, entry.decided_until_us + 1, SECOND_US)
        assert fired[entry.spec.name] == list(slots)
        assert len(slots) > KILLS
        assert entry.last_slot_us == slots[-1]
    store.close_all()


def _fired(path: Path) -> dict[str, list[int]]:
    """The slots of all jobs by name, in order. Each is the job of its slot, and each slot has its job and payload."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        jobs = connection.execute(
            "SELECT name, slot_us, id FROM mpdispatch_jobs JOIN mpdispatch_payloads ON job_id = id"
        ).fetchall()
        slots = connection.execute(
            "SELECT c.name, s.slot_us, s.job_id FROM mpdispatch_cron_slots AS s"
            " JOIN mpdispatch_crons AS c ON c.id = s.cron_id"
        ).fetchall()
    assert sorted(jobs) == sorted(slots)
    return {name: sorted(slot_us for each, slot_us, _ in jobs if each == name) for name in NAMES}

"""Schedules: how long after its slot a job starts, and how many jobs a slot has when two schedulers run.

Every side runs two schedulers at once, as for a host that must not miss a night. The peers know minutes only.
"""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from blocks import median, p99
from peers import Scheduler
from report import Figure, Target
from run import Run

MINUTE_S = 60


def measure(run: Run) -> Iterator[Figure]:
    found = _ours(run, "* * * * * *", run.size.cron_s)
    delays = [each % 1 * 1000 for each in found]
    per_slot = Counter(int(each) for each in found)
    note = f"{len(found)} slots of an entry with one a second, two supervisors"
    yield Figure(mode="cron", name="slot → first line: p50", value=median(delays), unit="ms", note=note)
    yield Figure(
        mode="cron",
        name="slot → first line: p99",
        value=p99(delays),
        unit="ms",
        target=Target("value", "≤", 100),
    )
    yield Figure(
        mode="cron",
        name="most jobs of one slot",
        value=max(per_slot.values()),
        unit="jobs",
        target=Target("value", "≤", 1),
    )
    if run.schedulers:
        yield from _beside(run)


def _ours(run: Run, schedule: str, seconds: float) -> list[float]:
    """When each job started: seconds since the epoch."""
    lines = run.path("cron-lines")
    with run.service("cron") as service:
        service.spawn()
        service.engine.crons.add("mark", schedule, job="mark", args={"file": str(lines)})
        time.sleep(seconds + 0.5)
    return _starts(lines)


def _starts(lines: Path) -> list[float]:
    return [float(line) for line in lines.read_text().split()] if lines.exists() else []


def _beside(run: Run) -> Iterator[Figure]:
    """All at once, as they have nothing to do but once a minute."""
    lines = {each.name: run.path(f"{each.name}-lines") for each in run.schedulers}
    processes = [_start(run, each, lines[each.name], number) for each in run.schedulers for number in range(2)]
    try:
        # From the middle of a minute, when all are up, to the middle of another one.
        time.sleep((MINUTE_S * 1.5 - time.time() % MINUTE_S) % MINUTE_S or MINUTE_S)
        ours = _ours(run, "* * * * *", run.size.cron_minutes * MINUTE_S)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    for scheduler in run.schedulers:
        found = _starts(lines[scheduler.name])
        about = f"{scheduler.name} {scheduler.version}, {run.size.cron_minutes} minutes, two schedulers"
        if not found or not ours:
            raise RuntimeError(f"{scheduler.name} started {len(found)} jobs, mpdispatch {len(ours)}: {about}")
        yield Figure(
            mode="cron",
            name=f"minute → first line, {scheduler.name}: p50",
            value=median([each % MINUTE_S * 1000 for each in found]),
            unit="ms",
            reference=median([each % MINUTE_S * 1000 for each in ours]),
            reference_name="mpdispatch",
            note=about,
        )
        yield Figure(
            mode="cron",
            name=f"most jobs of one minute, {scheduler.name}",
            value=max(Counter(int(each // MINUTE_S) for each in found).values()),
            unit="jobs",
            reference=max(Counter(int(each // MINUTE_S) for each in ours).values()),
            reference_name="mpdispatch",
        )


def _start(run: Run, scheduler: Scheduler, lines: Path, number: int) -> subprocess.Popen[bytes]:
    folder = run.folder / scheduler.name
    folder.mkdir(exist_ok=True)
    with (folder / f"{number}.log").open("wb") as log:
        return subprocess.Popen(
            [scheduler.python, scheduler.script, scheduler.name, lines],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )

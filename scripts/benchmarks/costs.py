"""Profile: what one no-op job costs, in CPU, system calls, bytes and fsyncs, of the supervisor and of its workers.

The pure costs come from undisturbed drains. System calls are counted by strace in drains of their own, for it
slows what it watches.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from blocks import median
from proc import cpu_us, cpu_us_of, tree, written_bytes
from references import pool_rate, warm_pool
from report import Figure
from run import Run
from service import Service, Stuck

_LINE = re.compile(
    r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(?P<calls>\d+)(?:\s+\d+)?\s+(?P<name>[a-z_]\w*)$", re.MULTILINE
)
Counter = Callable[[], float]
_SYNCS = ("fsync", "fdatasync", "sync_file_range")


def measure(run: Run) -> Iterator[Figure]:
    jobs = run.size.profile_jobs
    with warm_pool() as pool, run.service("profile") as service:
        workers = [pid for pid in tree(service.pid) if pid != service.pid]
        counters: dict[str, Counter] = {
            "supervisor": lambda: cpu_us(service.pid),
            "workers": lambda: cpu_us_of(workers),
            "bytes": lambda: sum(map(written_bytes, (service.pid, *workers))),
        }
        spent: dict[str, list[float]] = {name: [] for name in counters}
        pool_us: list[float] = []
        for _ in range(run.size.blocks):
            before_us = _own_cpu_us()
            pool_rate(pool, jobs)
            pool_us.append((_own_cpu_us() - before_us) / jobs)
            ids = _filled(service, jobs)
            before = {name: counter() for name, counter in counters.items()}
            service.timed_drain(ids)
            for name, counter in counters.items():
                spent[name].append((counter() - before[name]) / jobs)
        yield Figure(
            mode="profile",
            name="CPU of supervisor",
            value=median(spent["supervisor"]),
            unit="µs/job",
            reference=median(pool_us),
            reference_name="ProcessPoolExecutor's submitting process",
        )
        yield Figure(mode="profile", name="CPU of workers", value=median(spent["workers"]), unit="µs/job")
        yield Figure(mode="profile", name="written to disk", value=median(spent["bytes"]), unit="B/job")
        yield from _system_calls(run, service, workers)


def _own_cpu_us() -> float:
    return time.process_time_ns() / 1000


def _filled(service: Service, jobs: int) -> list[int]:
    service.engine.pause_queue("default")
    ids = list(service.enqueue("noop", jobs))
    time.sleep(0.1)  # the knocks of the enqueue are answered
    return ids


def _system_calls(run: Run, service: Service, workers: list[int]) -> Iterator[Figure]:
    strace = shutil.which("strace")
    if strace is None:
        return
    jobs = run.size.profile_jobs
    for who, pids in (("supervisor", [service.pid]), ("workers", workers)):
        ids = _filled(service, jobs)
        summary = run.path("strace")
        targets = [part for pid in pids for part in ("-p", str(pid))]
        tracer = subprocess.Popen(
            [strace, "-c", "-f", "-o", str(summary), *targets], stderr=subprocess.PIPE, text=True
        )
        try:
            _attached(tracer, len(pids))
            service.timed_drain(ids)
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.communicate(timeout=30)
        calls = _counted(summary)
        most = sorted(calls.items(), key=lambda item: -item[1])[:8]
        yield Figure(
            mode="profile",
            name=f"system calls of {who}",
            value=sum(calls.values()) / jobs,
            unit="/job",
            note=", ".join(f"{name} {count / jobs:.2f}" for name, count in most),
        )
        if who == "supervisor":
            syncs = sum(calls.get(name, 0) for name in _SYNCS)
            yield Figure(
                mode="profile", name="fsyncs of supervisor", value=syncs * 1000 / jobs, unit="/1k jobs"
            )


def _attached(tracer: subprocess.Popen[str], count: int) -> None:
    """Wait for strace's word on each of the processes."""
    assert tracer.stderr is not None
    for _ in range(count):
        line = tracer.stderr.readline()
        if "attached" not in line:
            raise Stuck(f"strace does not attach: {line.strip()}")


def _counted(summary: Path) -> dict[str, int]:
    """Calls by name, from `strace -c`."""
    found = {each["name"]: int(each["calls"]) for each in _LINE.finditer(summary.read_text())}
    found.pop("total", None)
    return found

"""What forked workers save over those that import the app themselves (`start_method`), with an app that imports NumPy."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

from blocks import median
from proc import pss_bytes, tree
from report import Figure
from run import Run
from service import PATIENCE_S, Service

MIB = 1 << 20
_APP, _WORKERS = "numpyapp:engine", 4
_SETTLE_S = 3.0
"""After the first jobs, the workers that imported the app give way to forks."""


def measure(run: Run) -> Iterator[Figure]:
    found = {method: (_starts_ms(run, method), *_memory_mib(run, method)) for method in ("forkserver", "spawn")}
    starts, workers, all_of_them = found["forkserver"]
    alone = found["spawn"]
    note = f"median of {len(starts)}; {_APP} imports NumPy"
    yield _figure("kill -9 of a worker → first line in the next", median(starts), median(alone[0]), "ms", note)
    yield _figure("PSS of four workers", workers, alone[1], "MiB")
    yield _figure(
        "PSS of supervisor, zygote, four workers", all_of_them, alone[2], "MiB", "spawn has no zygote"
    )


def _figure(name: str, value: float, reference: float, unit: str, note: str | None = None) -> Figure:
    return Figure(
        mode="forkserver",
        name=name,
        value=value,
        unit=unit,
        reference=reference,
        reference_name='start_method="spawn"',
        note=note,
    )


def _starts_ms(run: Run, method: str) -> list[float]:
    with run.service("start", app=_APP, workers=1, start_method=method) as service:
        time.sleep(_SETTLE_S)
        return [replacement_ms(service) for _ in range(run.size.starts)]


def replacement_ms(service: Service) -> float:
    """From the death of the only worker to the first line of a job in the next."""
    (pid,) = service.worker_pids()
    time.sleep(0.05)
    killed_ns = time.monotonic_ns()
    os.kill(pid, signal.SIGKILL)
    started_ns = service.engine.wait(service.engine.enqueue("stamp").id, timeout=PATIENCE_S).result
    return (started_ns - killed_ns) / 1e6


def _memory_mib(run: Run, method: str) -> tuple[float, float]:
    """PSS of the workers, and of all processes."""
    with run.service("memory", app=_APP, workers=_WORKERS, start_method=method) as service:
        time.sleep(_SETTLE_S)
        workers = service.worker_pids()
        sizes = {pid: pss_bytes(pid) for pid in tree(service.pid)}
    return sum(sizes[pid] for pid in workers) / MIB, sum(sizes.values()) / MIB

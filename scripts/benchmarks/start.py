"""Start: how soon a killed worker is replaced, how soon a killed supervisor's job runs again under its neighbour."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
from blocks import median
from forkserver import replacement_ms
from report import Figure, Target
from run import Run
from service import HERE, PATIENCE_S, until


def measure(run: Run) -> Iterator[Figure]:
    yield _worker(run)
    rows = run.size.backlog_large
    empty, full = _takeover(run, 0), _takeover(run, rows)
    name = "kill -9 of a supervisor → its job runs again"
    target = Target("value", "≤", 1000)
    note = f"median of {len(empty)}, slowest {max(empty):.0f} ms"
    yield Figure(mode="start", name=name, value=median(empty), unit="ms", target=target, note=note)
    yield Figure(
        mode="start",
        name=f"the same with {rows:,} rows",
        value=median(full),
        unit="ms",
        reference=median(empty),
        reference_name="with none",
        target=target,
        note=f"median of {len(full)}, slowest {max(full):.0f} ms",
    )


def _bare_python_ms() -> float:
    """What an interpreter with the same app costs by itself."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import app"], cwd=HERE, check=True)
    return (time.perf_counter() - began) * 1000


def _worker(run: Run) -> Figure:
    """One worker, so that its replacement must run the next job."""
    found, bare = [], []
    with run.service("worker", workers=1) as service:
        for _ in range(run.size.starts):
            bare.append(_bare_python_ms())
            found.append(replacement_ms(service))
    return Figure(
        mode="start",
        name="kill -9 of a worker → first line in the next",
        value=median(found),
        unit="ms",
        reference=median(bare),
        reference_name="python -c 'import app'",
        target=Target("value", "≤", 30),
        note=f"median of {len(found)}, slowest {max(found):.0f} ms; an enqueue's latency is in it",
    )


def _takeover(run: Run, rows: int) -> list[float]:
    """Two supervisors; the one that runs a job is killed, and the job's next start is waited for."""
    found = []
    with run.service("takeover") as service:
        if rows:
            service.engine.options(queue="unpolled").enqueue_many("noop", ({} for _ in range(rows)))
        for _ in range(run.size.starts):
            service.spawn()
            until(lambda: len(service.engine.store.supervisors()) == 2, "the second supervisor to join")
            pid_file = run.path("pid")
            job = service.engine.enqueue("hold", seconds=PATIENCE_S, pid_file=str(pid_file))
            until(pid_file.exists, "the job to start")
            time.sleep(0.05)
            worker = psutil.Process(int(pid_file.read_text()))
            runner = next(each for each in worker.parents() if service.is_supervisor(each.pid))
            killed_ns = time.monotonic_ns()
            runner.kill()
            started_ns = service.engine.wait(job.id, timeout=PATIENCE_S).result
            found.append((started_ns - killed_ns) / 1e6)
            service.forget(runner.pid)
    return found

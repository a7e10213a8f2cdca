"""Footprint: memory and idle CPU of a supervisor with two workers of an empty app, beside an idle standard pool.

PSS divides shared pages among all who share them: other Pythons of the same build on the machine make it smaller.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from proc import cpu_us_of, pss_bytes, tree
from report import Figure, Target
from run import Run
from service import HERE

MIB = 1 << 20
_POOL = "from references import warm_pool; pool = warm_pool(); print(flush=True); input()"


def measure(run: Run) -> Iterator[Figure]:
    with (
        run.service("empty", app="emptyapp:engine") as service,
        subprocess.Popen(
            [sys.executable, "-c", _POOL], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as pool,
    ):
        assert pool.stdout is not None
        pool.stdout.readline()
        time.sleep(min(2.0, run.size.footprint_s))  # what follows the last job is not idleness
        ours, theirs = tree(service.pid), tree(pool.pid)
        before = cpu_us_of(ours), cpu_us_of(theirs)
        began = time.perf_counter()
        time.sleep(run.size.footprint_s)
        elapsed_us = (time.perf_counter() - began) * 1e6
        ours_us, theirs_us = cpu_us_of(ours) - before[0], cpu_us_of(theirs) - before[1]
        sizes = {pid: pss_bytes(pid) for pid in ours}
        pool_bytes = sum(map(pss_bytes, theirs))
        pool.communicate(b"\n")
    shares = " + ".join(f"{size / MIB:.1f}" for size in sizes.values())
    yield Figure(
        mode="footprint",
        name="PSS of supervisor and two idle workers",
        value=sum(sizes.values()) / MIB,
        unit="MiB",
        reference=pool_bytes / MIB,
        reference_name="idle ProcessPoolExecutor(2), same imports",
        target=Target("value", "≤", 45),
        note=f"{shares} MiB (supervisor first)",
    )
    yield Figure(
        mode="footprint",
        name="idle CPU",
        value=100 * ours_us / elapsed_us,
        unit="%",
        reference=100 * theirs_us / elapsed_us,
        reference_name="idle ProcessPoolExecutor(2)",
        target=Target("value", "≤", 0.2),
        note=f"over {elapsed_us / 1e6:.1f} s",
    )

"""`engine.map` over no-ops, until the last result is here, beside the standard library's pool with `chunksize=1`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from blocks import interleave
from references import warm_pool
from report import Figure, Target, from_blocks
from run import Run
from work import same


def measure(run: Run) -> Iterator[Figure]:
    jobs = run.size.drain_jobs
    with warm_pool() as pool, run.service("map") as service:
        engine = service.engine
        list(engine.map("same", range(300)))
        blocks = interleave(
            lambda: _rate(lambda: pool.map(same, range(jobs), chunksize=1), jobs),
            {
                "in order": lambda: _rate(lambda: engine.map("same", range(jobs)), jobs),
                "as they come": lambda: _rate(lambda: engine.map("same", range(jobs), ordered=False), jobs),
            },
            run.size.blocks,
        )
    for name in blocks.subjects:
        yield from_blocks(
            "map-results",
            f"{jobs:,} no-ops, results {name}",
            "jobs/s",
            blocks,
            name,
            reference_name="ProcessPoolExecutor.map",
            target=Target("ratio", "≥", 2),
        )


def _rate(mapped: Callable[[], Iterable[int]], jobs: int) -> float:
    """Results per second."""
    began = time.perf_counter()
    assert sum(1 for _ in mapped()) == jobs
    return jobs / (time.perf_counter() - began)

"""Supervisors: four of them together on one store, beside one that has as many workers as they have together."""

from __future__ import annotations

from collections.abc import Iterator

from blocks import interleave
from report import Figure, Target, from_blocks
from run import Run
from sizes import WORKERS

SUPERVISORS = 4


def measure(run: Run) -> Iterator[Figure]:
    jobs, workers = run.size.drain_jobs, SUPERVISORS * WORKERS
    with run.service("one", workers=workers) as one, run.service("many", supervisors=SUPERVISORS) as many:
        blocks = interleave(
            lambda: jobs / one.drain("noop", jobs),
            {"many": lambda: jobs / many.drain("noop", jobs)},
            run.size.blocks,
        )
    yield from_blocks(
        "supervisors",
        f"{jobs:,} no-ops, {SUPERVISORS} supervisors of {WORKERS} workers",
        "jobs/s",
        blocks,
        "many",
        reference_name=f"one of {workers}",
        target=Target("ratio", "≥", 0.9) if run.server is not None else None,
    )

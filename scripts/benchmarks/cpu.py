"""CPU: jobs of real work against two plain processes looping over the same work. What is lost is our overhead."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from blocks import interleave
from references import Crowd
from report import Figure, Target, from_blocks
from run import Run
from service import Service
from sizes import WORKERS
from work import burn_all, rounds_per_ms

GOALS = {50: 0.99, 5: 0.97, 1: 0.90}
"""Milliseconds per job → throughput to reach."""
ROUNDS = 3
"""Times as many blocks as elsewhere: what is lost is a few percent, and two runs of the plain processes differ by more
where the CPUs are shared with others."""


def measure(run: Run) -> Iterator[Figure]:
    one_ms = rounds_per_ms()
    with Crowd(WORKERS) as crowd, run.service("cpu") as service:
        for job_ms, goal in GOALS.items():
            jobs = WORKERS * max(2, round(run.size.cpu_block_s * 1000 / job_ms))
            plain, ours = _both(crowd, service, jobs, job_ms * one_ms)
            ours()  # its run time is known from now on
            blocks = interleave(plain, {"mpdispatch": ours}, ROUNDS * run.size.blocks)
            yield from_blocks(
                "cpu",
                f"{jobs:,} jobs of {job_ms} ms",
                "jobs/s",
                blocks,
                "mpdispatch",
                reference_name=f"{WORKERS} plain processes",
                target=Target("ratio", "≥", goal),
            )


def _both(
    crowd: Crowd, service: Service, jobs: int, rounds: int
) -> tuple[Callable[[], float], Callable[[], float]]:
    def plain() -> float:
        elapsed_s, _ = crowd.run([(burn_all, (rounds, jobs // WORKERS))] * WORKERS)
        return jobs / elapsed_s

    return plain, lambda: jobs / service.drain("burn", jobs, rounds=rounds)

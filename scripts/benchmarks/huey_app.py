"""Huey's app of the benchmarks, for its consumer and its driver. Its store is named by the environment."""

from __future__ import annotations

import os
import time

from huey import SqliteHuey

huey = SqliteHuey(filename=os.environ["BENCH_HUEY"], fsync=os.environ["BENCH_HUEY_FSYNC"] == "1", timeout=30)


@huey.task()
def noop() -> None:
    """Its result is None, which Huey does not store."""


@huey.task()
def stamp() -> int:
    return time.monotonic_ns()

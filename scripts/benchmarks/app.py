"""The app of the benchmarks: handlers, and engines of them on any store. Runs in workers and in the bench itself."""

from __future__ import annotations

import os
import time
from pathlib import Path

from sizes import WORKERS
from work import burn, nap, noop, same, stamp

from mpdispatch import Dispatcher, Engine, backoff, current_job, job
from mpdispatch.store.open import open_store


def add(a: int, b: int = 2) -> None:
    """For bulk enqueues: there is a signature to bind and a payload to encode."""


def mark(file: str) -> None:
    """Adds a line that says when it began, in seconds since the epoch."""
    with Path(file).open("a") as lines:
        print(time.time(), file=lines)


# No pause between its attempts: what is measured is the take-over, not the backoff.
@job(max_retries=3, backoff=backoff.Constant(0))
def hold(seconds: float, pid_file: str) -> int:
    """The first attempt leaves its pid and stays; a later one says when its first line ran (monotonic ns)."""
    now_ns = time.monotonic_ns()
    if current_job().attempt == 1:
        unfinished = Path(f"{pid_file}.part")
        unfinished.write_text(str(os.getpid()))
        unfinished.rename(pid_file)
        time.sleep(seconds)
    return now_ns


def engine_on(store: str | Path) -> Engine:
    """An engine with all handlers of the benchmarks, `WORKERS` workers and every default. `store`: a location."""
    engine = Engine.build(Dispatcher(store=open_store(store), concurrency=WORKERS))
    for handler in (noop, same, stamp, nap, burn, add, hold, mark):
        engine.register(handler)
    return engine


# Under `supervise --store …` the store named there is used; this one is for `engine.dispatcher.start()`.
engine = engine_on(os.environ.get("BENCH_STORE") or "bench.db")

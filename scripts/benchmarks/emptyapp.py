"""An app with next to nothing in it, for the footprint: one handler, without which no second worker would start."""

from __future__ import annotations

import time

from mpdispatch import Engine

engine = Engine.open("bench.db", concurrency=2)


@engine.job
def nap(seconds: float) -> int:
    time.sleep(seconds)
    return time.monotonic_ns()

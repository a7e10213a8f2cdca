"""Replaces workers that imported the app themselves by forked ones, which share memory with the zygote.
Effects.

This saves 2.5 MiB per worker with an empty app.

```
  zygote has the app ─▶ successor forked ─▶ successor is ready ─▶ the old worker retires once it is idle
                             └─ ends, hangs: the old worker stays
```

Runs only while no job waits; once or a few times, soon after the start.
"""

from __future__ import annotations

from mpdispatch.pool.pool import Pool
from mpdispatch.pool.process import WorkerProcess, WorkerState


class ForkReplacement:
    """One successor at a time. The loop's thread only."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._successor: WorkerProcess | None = None

    def step(self, *, may_start: bool) -> None:
        """Start or finish one replacement, if possible now. `may_start`: a worker may be started now."""
        successor = self._successor
        if successor is not None and successor.state is WorkerState.BOOTING and successor in self._pool.workers:
            return
        # Wait until the successor is ready: an app that does not survive a fork may run well without one.
        old = self._idle_one()
        if successor is not None and successor.state is WorkerState.READY and successor in self._pool.workers:
            if old is not None:
                self._successor = None
                old.retire()
            return
        self._successor = None
        if old is not None and may_start and self._pool.spawner.has_app and not self._pool.booting:
            try:
                self._successor = self._pool.spawn()
            except OSError:
                return  # no process or descriptor available: the old worker stays

    def _idle_one(self) -> WorkerProcess | None:
        """An idle worker that does not share the zygote's memory, or None."""
        for worker in self._pool.workers:
            if not worker.shares_app and worker.state is WorkerState.READY and not worker.unsettled:
                return worker
        return None

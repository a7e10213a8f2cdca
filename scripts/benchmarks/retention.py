"""Retention: old jobs pruned by a supervisor that drains, with a thread that enqueues; and what pruning costs by itself.

The ended jobs are written by SQL, as a drain would have left them. The supervisor prunes what is older than a week from
its start on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

from report import Figure, Target
from run import Run
from service import Service, until

from mpdispatch import Engine, SQLiteStore
from mpdispatch.clock import SECOND_US
from mpdispatch.store.values import Retention

WEEK_US = 7 * 86_400 * SECOND_US
OLD = 0.3
"""Share of the ended jobs that is older than a week."""
_AT_ONCE = 50_000
_END = """
UPDATE mpdispatch_jobs SET
    state = 'completed', lane = NULL, starts = 1, attempt = 1, started_at_us = :now, result = '{"pages":3}',
    worker_pid = 4711, duration_us = 900, cpu_us = 800, max_rss_bytes = 20000000,
    completed_at_us = iif(id <= :old, :now - 2 * :week, :now) + id
WHERE id > :after
"""


def measure(run: Run) -> Iterator[Figure]:
    large = run.size.backlog_large
    old = round(OLD * large)
    yield from _while_draining(run, ended=large, old=old)
    yield from _while_draining(run, ended=old, old=old)
    yield from _alone(run, ended=large, old=old)


def fill(engine: Engine, ended: int, old: int) -> None:
    """So many jobs that have ended, the first of them two weeks ago."""
    store = engine.store
    assert isinstance(store, SQLiteStore)
    done = 0
    while done < ended:
        count = min(_AT_ONCE, ended - done)
        engine.enqueue_many("noop", ({} for _ in range(count)))
        now_us = time.time_ns() // 1000
        store._sessions.write(
            lambda c, done=done, now_us=now_us: c.execute(
                _END, {"now": now_us, "old": old, "week": WEEK_US, "after": done}
            ),
            "bench",
        )
        done += count
    store._sessions.current().checkpoint(truncate=True)


class Enqueuer:
    """A thread that enqueues one job after the other, and the longest that one took."""

    def __init__(self, service: Service) -> None:
        self._service, self._off = service, threading.Event()
        self.count, self.longest_s = 0, 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._off.wait(0.002):
            began = time.perf_counter()
            self._service.engine.enqueue("noop")
            self.longest_s = max(self.longest_s, time.perf_counter() - began)
            self.count += 1

    def stop(self) -> None:
        self._off.set()
        self._thread.join()


def _while_draining(run: Run, *, ended: int, old: int) -> Iterator[Figure]:
    service = run.service("retention")
    fill(service.engine, ended, old)
    before_bytes = service.path.stat().st_size
    began = time.perf_counter()
    with service:
        enqueuer = Enqueuer(service)
        drained = 0
        try:
            while _is_there(service, old):
                if ended > old:
                    service.finish(service.enqueue("noop", run.size.drain_jobs))
                    drained += run.size.drain_jobs
                else:  # the file cannot become smaller where new jobs stay
                    time.sleep(0.05)
            elapsed_s = time.perf_counter() - began
        finally:
            enqueuer.stop()
        name = f"{old:,} of {ended:,} ended jobs"
        yield Figure(
            mode="retention",
            name=f"{name}: pruned",
            value=old / elapsed_s,
            unit="jobs/s",
            note=f"in {elapsed_s:.1f} s with the supervisor's start, while {drained:,} no-ops were drained",
        )
        yield Figure(
            mode="retention",
            name=f"{name}: longest of {enqueuer.count:,} enqueues",
            value=enqueuer.longest_s * 1000,
            unit="ms",
            target=Target("value", "≤", 250),
        )
        if ended == old:
            until(lambda: _is_small(service.path, before_bytes), "the file to become smaller", patience_s=120)
            yield Figure(
                mode="retention",
                name=f"{name}: the file afterwards",
                value=service.path.stat().st_size / (1 << 20),
                unit="MiB",
                reference=before_bytes / (1 << 20),
                reference_name="before",
                target=Target("ratio", "≤", 0.5),
            )


def _is_there(service: Service, job_id: int) -> bool:
    store = service.engine.store
    assert isinstance(store, SQLiteStore)
    query = "SELECT EXISTS (SELECT 1 FROM mpdispatch_jobs WHERE id <= ?)"
    return bool(store._sessions.read(lambda c: c.execute(query, (job_id,)).fetchone()[0]))


def _is_small(path: Path, before_bytes: int) -> bool:
    return path.stat().st_size <= max(before_bytes / 2, 2 << 20)


def _alone(run: Run, *, ended: int, old: int) -> Iterator[Figure]:
    """In this process and without jobs: the CPU time."""
    service = run.service("retention")
    fill(service.engine, ended, old)
    supervisor_store = service.engine.store.supervisor_store()
    retention = Retention(WEEK_US, WEEK_US, None)

    def round_us() -> tuple[float, int]:
        began, steps = time.process_time_ns(), 1
        while supervisor_store.upkeep.prune(retention).has_more:
            steps += 1
        return (time.process_time_ns() - began) / 1000, steps

    spent_us, steps = round_us()
    yield Figure(
        mode="retention",
        name=f"{old:,} of {ended:,} ended jobs: CPU to prune",
        value=spent_us / old,
        unit="µs/job",
        note=f"{steps} steps, some 50 ms apart: {spent_us / steps / 50_000:.0%} of a CPU meanwhile",
    )
    began, steps = time.process_time_ns(), 1
    while supervisor_store.file_care.shrink():
        steps += 1
    spent_us = (time.process_time_ns() - began) / 1000
    yield Figure(
        mode="retention",
        name="then to make the file smaller",
        value=spent_us / old,
        unit="µs/job",
        note=f"{steps} steps",
    )
    yield Figure(
        mode="retention",
        name=f"a round with {ended - old:,} young jobs",
        value=round_us()[0],
        unit="µs",
        note="once a minute",
    )
    limit = Retention(None, None, max((ended - old) // 2, 1))
    began, steps = time.process_time_ns(), 1
    while supervisor_store.upkeep.prune(limit).has_more:
        steps += 1
    began = time.process_time_ns()
    while supervisor_store.upkeep.prune(limit).has_more:
        continue
    yield Figure(
        mode="retention",
        name=f"a round with a limit of {limit.limit:,} jobs, all there",
        value=(time.process_time_ns() - began) / 1000,
        unit="µs",
        note="once a minute",
    )
    supervisor_store.close()

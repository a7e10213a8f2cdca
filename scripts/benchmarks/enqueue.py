"""Enqueue: one by one, in bulk, from 8 processes at once, and while the supervisor drains at full rate."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from app import engine_on
from blocks import interleave, median, p99
from references import Crowd, RawTable
from report import Figure, Target, from_blocks
from run import Run
from service import Service

from mpdispatch import Engine

PROCESSES = 8
ASIDE = "aside"
"""A queue nobody polls: what is enqueued there is written and knocked for like any other job, but never run."""


def measure(run: Run) -> Iterator[Figure]:
    yield from _single(run)
    yield from _bulk(run)
    yield from _crowd(run)
    yield from _while_draining(run)


def _single(run: Run) -> Iterator[Figure]:
    engine, raw = engine_on(run.path("single.db")), RawTable(run.path("raw.db"))
    jobs = run.size.single_jobs

    def ours() -> float:
        began = time.perf_counter()
        for _ in range(jobs):
            engine.enqueue("noop")
        return jobs / (time.perf_counter() - began)

    ours(), raw.insert_rate(jobs)  # both files exist, both are warm
    subjects = {"mpdispatch": ours}
    for peer in run.peers:
        for setting in peer.settings:
            subjects[f"{peer.name} {setting}"] = peer.enqueue_rate(run, setting, jobs)
    blocks = interleave(lambda: raw.insert_rate(jobs), subjects, run.size.blocks)
    raw.close()
    engine.store.close()
    raw_name = "raw INSERT, FULL"
    target = Target("ratio", "≥", 0.85)
    yield from_blocks(
        "enqueue", "single", "jobs/s", blocks, "mpdispatch", reference_name=raw_name, target=target
    )
    for peer in run.peers:
        for setting in peer.settings:
            subject = f"{peer.name} {setting}"
            yield from_blocks(
                "enqueue", f"single, {subject}", "jobs/s", blocks, subject, reference_name=raw_name
            )


def _bulk(run: Run) -> Iterator[Figure]:
    engine, raw = engine_on(run.path("bulk.db")), RawTable(run.path("raw.db"))
    jobs = run.size.bulk_jobs

    def ours() -> float:
        began = time.perf_counter()
        engine.enqueue_many("add", ({"a": number} for number in range(jobs)))
        return jobs / (time.perf_counter() - began)

    ours(), raw.bound_rate(jobs)
    subjects = {"mpdispatch": ours, "raw": lambda: raw.encoded_rate(jobs)}
    blocks = interleave(lambda: raw.bound_rate(jobs), subjects, run.size.blocks)
    raw.close()
    engine.store.close()
    name = f"bulk, {jobs:,} jobs"
    yield from_blocks(
        "enqueue",
        name,
        "jobs/s",
        blocks,
        "mpdispatch",
        reference_name="executemany, bound and encoded",
        target=Target("ratio", "≥", 0.6),
    )
    yield Figure(
        mode="enqueue",
        name="bulk, raw executemany of ready rows",
        value=median(blocks.subjects["raw"]),
        unit="rows/s",
    )


def _enqueue_from(path: str, jobs: int) -> list[float]:
    """Milliseconds of each enqueue. Runs in a process of the crowd."""
    engine = engine_on(Path(path))
    found = _timed_enqueues(engine, jobs)
    engine.store.close()
    return found


def _insert_from(path: str, rows: int) -> list[float]:
    raw, found = RawTable(Path(path)), []
    for _ in range(rows):
        began = time.perf_counter()
        raw.insert()
        found.append((time.perf_counter() - began) * 1000)
    raw.close()
    return found


def _crowd(run: Run) -> Iterator[Figure]:
    ours, raw, jobs = str(run.path("crowd.db")), str(run.path("raw.db")), run.size.crowd_jobs
    waits: list[float] = []
    raw_waits: list[float] = []
    # Made before: of several processes that switch a new file to WAL at once, plain SQLite refuses all but one. Kept
    # open, for the last to close a file takes its WAL away.
    kept = RawTable(Path(raw))
    with Crowd(PROCESSES) as crowd, closing(kept):

        def rate_of_ours() -> float:
            elapsed_s, found = crowd.run([(_enqueue_from, (ours, jobs))] * PROCESSES)
            waits.extend(wait for each in found for wait in each)
            return PROCESSES * jobs / elapsed_s

        def rate_of_raw() -> float:
            elapsed_s, found = crowd.run([(_insert_from, (raw, jobs))] * PROCESSES)
            raw_waits.extend(wait for each in found for wait in each)
            return PROCESSES * jobs / elapsed_s

        rate_of_ours(), rate_of_raw()
        waits.clear()
        raw_waits.clear()
        blocks = interleave(rate_of_raw, {"mpdispatch": rate_of_ours}, run.size.blocks)
    raw_name = f"raw INSERT, FULL, {PROCESSES} processes"
    yield from_blocks(
        "enqueue", f"{PROCESSES} processes", "jobs/s", blocks, "mpdispatch", reference_name=raw_name
    )
    yield Figure(
        mode="enqueue",
        name=f"{PROCESSES} processes, p99 of one enqueue",
        value=p99(waits),
        unit="ms",
        reference=p99(raw_waits),
        reference_name=raw_name,
    )


def _timed_enqueues(engine: Engine, jobs: int, queue: str = "default") -> list[float]:
    found = []
    target = engine.options(queue=queue)
    for _ in range(jobs):
        began = time.perf_counter()
        target.enqueue("noop")
        found.append((time.perf_counter() - began) * 1000)
    return found


def _while_draining(run: Run) -> Iterator[Figure]:
    idle: list[float] = []
    busy: list[float] = []
    with run.service("draining") as service:
        for _ in range(run.size.blocks):
            idle += _timed_enqueues(service.engine, run.size.single_jobs, ASIDE)
            busy += _during_a_drain(service, run.size.drain_jobs)
        idle += _timed_enqueues(service.engine, run.size.single_jobs, ASIDE)
    yield Figure(
        mode="enqueue",
        name="p99 of one enqueue while draining at full rate",
        value=p99(busy),
        unit="ms",
        reference=p99(idle),
        reference_name="idle",
        target=Target("ratio", "≤", 5),
        note=f"{len(busy)} enqueues while draining, {len(idle)} idle",
    )


def _during_a_drain(service: Service, jobs: int) -> list[float]:
    service.engine.pause_queue("default")
    last = service.enqueue("noop", jobs)[-1]
    service.engine.resume_queue("default")
    found: list[float] = []
    while not service.engine.store.state_of(last).is_terminal:
        found += _timed_enqueues(service.engine, 5, ASIDE)
    return found

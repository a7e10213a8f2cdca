"""Drain: no-op jobs per second, from claimable to on disk as completed.

The jobs wait in a paused queue of a warm supervisor; the clock runs from just before the queue is resumed until
the last outcome can be read from the store. Starting processes is on nobody's clock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from blocks import interleave, median
from references import pool_rate, warm_pool
from report import Figure, Target, from_blocks
from run import Run
from service import Service

MIB = 1 << 20


class WalWatch:
    """The largest the WAL was while watched."""

    def __init__(self, service: Service) -> None:
        self._service, self._off = service, threading.Event()
        self.peak_bytes = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._off.wait(0.05):
            self.peak_bytes = max(self.peak_bytes, self._service.wal_bytes())

    def stop(self) -> None:
        self._off.set()
        self._thread.join()
        self.peak_bytes = max(self.peak_bytes, self._service.wal_bytes())


def measure(run: Run) -> Iterator[Figure]:
    size, jobs = run.size, run.size.drain_jobs
    with warm_pool() as pool, run.service("drain") as service:
        watch = WalWatch(service)
        subjects = {"mpdispatch": lambda: jobs / service.drain("noop", jobs)}
        for peer in run.peers:
            for setting in peer.settings:
                subjects[f"{peer.name} {setting}"] = peer.drain_rate(run, setting, peer.jobs_of(size))
        blocks = interleave(lambda: pool_rate(pool, jobs), subjects, size.blocks)
        watch.stop()
    name = f"{jobs:,} no-ops"
    yield from_blocks(
        "drain",
        name,
        "jobs/s",
        blocks,
        "mpdispatch",
        reference_name="ProcessPoolExecutor.submit",
        target=Target("ratio", "≥", 5) if run.server is None else None,
    )
    for peer in run.peers:
        for setting, limit in peer.settings.items():
            subject = f"{peer.name} {setting}"
            yield from_blocks(
                "drain",
                f"{subject}, {peer.jobs_of(size):,} no-ops",
                "jobs/s",
                blocks,
                subject,
                reference_name="ProcessPoolExecutor.submit",
            )
            yield Figure(
                mode="drain",
                name=f"mpdispatch beside {subject}",
                value=median(blocks.subjects["mpdispatch"]),
                unit="jobs/s",
                reference=median(blocks.subjects[subject]),
                reference_name=subject,
                ratios=blocks.ratios_between("mpdispatch", subject),
                target=Target("ratio", "≥", limit),
            )
    if run.server is None:
        yield Figure(
            mode="drain",
            name="largest WAL",
            value=watch.peak_bytes / MIB,
            unit="MiB",
            target=Target("value", "≤", 64),
        )
    yield members(run)


def members(run: Run) -> Figure:
    """What it costs a drain that its jobs are members of a batch: it counts them as they end."""
    jobs = run.size.drain_jobs
    with run.service("members") as service:
        blocks = interleave(
            lambda: jobs / service.drain("noop", jobs, are_members=False),
            {"members": lambda: jobs / service.drain("noop", jobs)},
            run.size.blocks,
        )
    return from_blocks(
        "drain",
        f"{jobs:,} no-ops of a batch",
        "jobs/s",
        blocks,
        "members",
        reference_name="no-ops of no batch",
        target=Target("ratio", "≥", 0.95),
    )

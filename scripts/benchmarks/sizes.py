"""How much of everything is measured: in full, quickly, or only so much that every line of the bench runs."""

from __future__ import annotations

from dataclasses import dataclass

WORKERS = 2
"""Worker processes of every side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    blocks: int
    drain_jobs: int
    peer_jobs: int
    single_jobs: int
    bulk_jobs: int
    crowd_jobs: int
    """Enqueued by each of 8 processes."""
    latency_samples: int
    latency_block: int
    cpu_block_s: float
    """How long each of two workers computes in one block."""
    backlog_small: int
    backlog_large: int
    backlog_step: int
    """Jobs drained in one block."""
    footprint_s: float
    starts: int
    profile_jobs: int
    cron_s: float
    cron_minutes: int
    """How long other schedulers are watched."""
    map_jobs: int
    map_sleeps: int
    map_sleep_s: float


SIZES = {
    "full": Size(
        blocks=7,
        drain_jobs=10_000,
        peer_jobs=2_000,
        single_jobs=500,
        bulk_jobs=50_000,
        crowd_jobs=200,
        latency_samples=1_000,
        latency_block=50,
        cpu_block_s=2.0,
        backlog_small=25_000,
        backlog_large=1_000_000,
        backlog_step=10_000,
        footprint_s=20.0,
        starts=15,
        profile_jobs=20_000,
        cron_s=60.0,
        cron_minutes=5,
        map_jobs=2_000,
        map_sleeps=40,
        map_sleep_s=1.0,
    ),
    "quick": Size(
        blocks=3,
        drain_jobs=5_000,
        peer_jobs=500,
        single_jobs=200,
        bulk_jobs=20_000,
        crowd_jobs=40,
        latency_samples=150,
        latency_block=50,
        cpu_block_s=0.5,
        backlog_small=10_000,
        backlog_large=100_000,
        backlog_step=4_000,
        footprint_s=10.0,
        starts=3,
        profile_jobs=5_000,
        cron_s=15.0,
        cron_minutes=2,
        map_jobs=1_000,
        map_sleeps=20,
        map_sleep_s=1.0,
    ),
    "smallest": Size(
        blocks=1,
        drain_jobs=200,
        peer_jobs=50,
        single_jobs=5,
        bulk_jobs=200,
        crowd_jobs=2,
        latency_samples=6,
        latency_block=3,
        cpu_block_s=0.05,
        backlog_small=300,
        backlog_large=600,
        backlog_step=200,
        footprint_s=0.5,
        starts=1,
        profile_jobs=200,
        cron_s=2.0,
        cron_minutes=1,
        map_jobs=20,
        map_sleeps=2,
        map_sleep_s=0.1,
    ),
}

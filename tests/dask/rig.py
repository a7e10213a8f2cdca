"""A pool on a cluster, and what it says, for tests of the pool alone. Runs in the test."""

from __future__ import annotations

import logging
import secrets
from pathlib import Path

from mpdispatch.clock import SystemClock
from mpdispatch.pool.frames import Boot
from mpdispatch.pool.open import open_cluster_pool
from mpdispatch.pool.protocol import Pool
from tests.pool.rig import Rig


class DaskRig(Rig):
    """As a rig of worker processes; each worker is one of the cluster."""

    def __init__(self, folder: Path, place: str, *, workers: int = 2) -> None:
        """`workers`: how many the cluster has."""
        self.place, self._count = place, workers
        super().__init__(folder)

    def make_pool(self, boot: Boot) -> Pool:
        return open_cluster_pool(
            self.place,
            boot,
            secrets.token_hex(8),
            selector=self.selector,
            clock=SystemClock(),
            log=logging.getLogger("mpdispatch.tests"),
        )

    def open(self) -> None:
        super().open()
        self.count_workers(self._count)

    def count_workers(self, count: int) -> None:
        """Wait until the cluster has so many workers."""
        self.until(lambda: self.pool.capacity >= count, f"{count} workers of the cluster")

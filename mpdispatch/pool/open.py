"""Opens the pool of a cluster, whose packages are loaded only then. Runs in the supervisor."""

from __future__ import annotations

import logging

from mpdispatch.clock import Clock
from mpdispatch.errors import PoolUnavailable
from mpdispatch.pool.frames import Boot
from mpdispatch.pool.protocol import Pool
from mpdispatch.pool.selector import Selector


def open_cluster_pool(
    pool: str, boot: Boot, token: str, *, selector: Selector, clock: Clock, log: logging.Logger
) -> Pool:
    """The pool of this cluster, connected; `token` is new for each supervisor. Waits at most 10 s for the cluster.

    Raises PoolUnavailable: a package is missing, or the cluster does not answer.
    """
    try:
        from mpdispatch.pool.dask.pool import open_dask_pool
    except ImportError as error:
        if (error.name or "").split(".")[0] not in ("distributed", "dask"):
            raise
        detail = f"this pool needs dask.distributed ({error}): pip install 'mpdispatch[dask]'"
        raise PoolUnavailable(pool, detail) from error
    return open_dask_pool(pool, boot, token, selector=selector, clock=clock, log=log)

"""The supervisors of a store, from its rows, and their workers, from start journals. Reads only.

Imported only when it is used, because enqueueing needs none of the modules that it imports.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mpdispatch.clock import Instant
from mpdispatch.host.liveness import living_workers, verdict_on
from mpdispatch.host.runtime_folder import runtime_folder
from mpdispatch.model import PeerSupervisor, SupervisorStatus, WorkerStatus
from mpdispatch.model.json import moment_of
from mpdispatch.policy.lease import PeerVerdict
from mpdispatch.policy.pools import pool_in
from mpdispatch.store.contract import Store
from mpdispatch.store.values import HeldJob


def living_supervisors(store: Store) -> list[PeerSupervisor]:
    """The registered supervisors of a store that live. The only place that decides this for people. Raises StoreError.

    A row alone is no proof: a killed supervisor leaves its row, and for a while its lease.
    """
    folder = runtime_folder(store)
    return [each for each in store.supervisors() if verdict_on(each, folder) is PeerVerdict.ALIVE]


def supervisors_of(store: Store, now: Instant) -> list[SupervisorStatus]:
    """Every registered supervisor, oldest first."""
    folder = runtime_folder(store)
    return [_status(each, store.held_by(each.id), folder, now) for each in store.supervisors()]


def _status(peer: PeerSupervisor, jobs: list[HeldJob], folder: Path, now: Instant) -> SupervisorStatus:
    app, pool = pool_in(peer.app)
    return SupervisorStatus(
        id=peer.id,
        host=peer.host,
        pid=peer.pid,
        state=verdict_on(peer, folder).value,
        app=app,
        pool=pool,
        queues=peer.queues,
        concurrency=peer.concurrency,
        version=peer.version,
        started_at=moment_of(peer.started_us),
        heartbeat_at=moment_of(peer.heartbeat_us),
        jobs=len(jobs),
        workers=tuple(_workers(peer, jobs, folder, now)),
    )


def _workers(peer: PeerSupervisor, jobs: list[HeldJob], folder: Path, now: Instant) -> Iterator[WorkerStatus]:
    held = {(job.id, job.starts): job for job in jobs}
    for process, mark in living_workers(peer, folder):
        job = None if mark is None else held.get((mark.job_id, mark.starts))
        since_us = 0 if mark is None else now.wall_us - (now.boot_us - mark.started_boot_us)
        yield WorkerStatus(
            pid=process.pid,
            job_id=None if job is None else job.id,
            job_name=None if job is None else job.name,
            since=None if job is None else moment_of(since_us),
        )

"""Reads that explain things to people: why a job waits, what is parked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from mpdispatch.clock import Instant
from mpdispatch.ids import boot_id
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.mending import texts
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.rows import WAITING_FOR_PARENTS
from mpdispatch.store.values import QueueState


def parked(connection: Connection) -> dict[str, int]:
    found = counted(connection.execute(QUERIES["parked_reasons"]))
    if waiting := connection.execute(QUERIES["waiting_dependents"]).fetchone()[0]:
        found[WAITING_FOR_PARENTS] = waiting
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def ahead(connection: Connection, job_id: int) -> int:
    place = connection.execute(QUERIES["place_of"], (job_id,)).fetchone()
    if place is None:
        return 0
    queue, priority, run_at_us = place
    values = {"id": job_id, "queue": queue, "priority": priority, "run_at_us": run_at_us}
    return int(connection.execute(QUERIES["ahead"], values).fetchone()[0])


def queue_state(connection: Connection, queue: str, now: Instant) -> QueueState:
    values = {"queue": queue, "boot_id": boot_id()}
    is_paused, running, bucket = connection.execute(QUERIES["queue_state"], values).fetchone()
    return QueueState(bool(is_paused), running, bucket, now.boot_us)


def counted(rows: Iterable[tuple[str | bytes | None, int]]) -> dict[str, int]:
    """Rows of (reason, count) as a mapping."""
    found = Counter[str]()
    for reason, count in rows:
        found[texts(reason or "")] += count
    return dict(found)

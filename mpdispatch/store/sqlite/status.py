"""What is only read to explain things to people: why a job waits, what is parked."""

from __future__ import annotations

from pathlib import Path

from mpdispatch import sqlite3
from mpdispatch.ids import boot_id
from mpdispatch.store.sql import Queries

__all__ = ["STATUS", "ahead", "bucket", "parked"]

STATUS = Queries(Path(__file__).with_name("status.sql"))


def parked(connection: sqlite3.Connection) -> dict[str, int]:
    return dict(connection.execute(STATUS["parked_reasons"]).fetchall())


def ahead(connection: sqlite3.Connection, job_id: int) -> int:
    place = connection.execute(STATUS["place_of"], (job_id,)).fetchone()
    if place is None:
        return 0
    return int(connection.execute(STATUS["ahead"], (job_id, *place)).fetchone()[0])


def bucket(connection: sqlite3.Connection, queue: str) -> int | None:
    row = connection.execute(STATUS["bucket_of"], (queue, boot_id())).fetchone()
    return None if row is None else row[0]

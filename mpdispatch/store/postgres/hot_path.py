"""Claims and outcomes in few round trips: rows go as arrays, and those that another transaction holds are left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from mpdispatch.clock import Instant
from mpdispatch.model import NewJob, Transition
from mpdispatch.store.postgres.dialect import OWN
from mpdispatch.store.sql.candidates import ID, PARK_AT_MOST, Arm, Row, as_json
from mpdispatch.store.sql.connection import Connection, Cursor
from mpdispatch.store.sql.finish import SomeRejectedError, record_rest, row_of, split
from mpdispatch.store.sql.hot_path import HotPath
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.rows import new_job_row, stored_json

_COLUMNS = ("ids", "starts", "at", "started", "results", "pids", "durations", "cpu", "rss")
"""The values of a plain completion."""
_WIDTH, _RESULT = len(_COLUMNS), _COLUMNS.index("results")
_FINISH = QUERIES["finish"]


def _numbers(values: Iterable[int | None]) -> str:
    """An array of numbers, as PostgreSQL reads it."""
    return "{" + ",".join(["NULL" if each is None else str(each) for each in values]) + "}"


def texts(values: Iterable[str]) -> str:
    """An array of texts, as PostgreSQL reads it.

    >>> texts(["a", 'say "no"'])
    '{"a","say \\\\"no\\\\""}'
    """
    quoted = ['"' + each.replace("\\", "\\\\").replace('"', '\\"') + '"' for each in values]
    return "{" + ",".join(quoted) + "}"


# ---------------------------------------------------------------- outcomes


def arrays_of(values: Sequence[Any]) -> dict[str, str]:
    """The values of plain completions as arrays, by column."""
    columns = (values[at::_WIDTH] for at in range(_WIDTH))
    arrays = (texts(each) if at == _RESULT else _numbers(each) for at, each in enumerate(columns))
    return dict(zip(_COLUMNS, arrays, strict=True))


def record(connection: Connection, owner: int, transitions: Sequence[Transition]) -> None:
    """Write all transitions, or raise SomeRejectedError with the transaction half written."""
    values, count, others = split(transitions)
    if count and connection.execute(OWN["complete"], {**arrays_of(values), "owner": owner}).rowcount != count:
        raise SomeRejectedError
    record_others(connection, owner, others)


def record_others(connection: Connection, owner: int, others: Sequence[Transition]) -> None:
    """Write those that are no plain completions, or raise SomeRejectedError."""
    if others:
        touched = connection.executemany(_FINISH, [row_of(owner, each) for each in others]).rowcount
        if touched != len(others):
            raise SomeRejectedError
    record_rest(connection, others)


# ---------------------------------------------------------------- claims


def open_due(connection: Connection, arms: Sequence[Arm], total: int, cursors: list[Cursor]) -> Iterator[Row]:
    """An `OpenDue`: a portion as large as is asked for, and another one if rows of the first are left out."""
    seen, limit, offset = set[int](), total, 0
    while True:
        rows = _portion(connection, arms, limit, offset)
        # Somebody may have enqueued meanwhile, before the place where the next portion begins.
        yield from (row for row in rows if row[ID] not in seen)
        if len(rows) < limit:
            return
        seen.update(row[ID] for row in rows)
        limit, offset = PARK_AT_MOST + total, offset + limit


def _portion(connection: Connection, arms: Sequence[Arm], limit: int, offset: int) -> list[Row]:
    if len(arms) == 1 and arms[0][0] == "due":
        return connection.execute(OWN["due_now"], (*arms[0][1], limit, offset)).fetchall()
    values = {
        "due": _arms((queue, None, most) for queue, most in _of(arms, "due", limit + offset)),
        "parked": _arms((queue, name, most) for name, queue, most in _of(arms, "parked")),
        "limit": limit,
        "offset": offset,
        "most": limit + offset,
    }
    return connection.execute(OWN["due_of_many"], values).fetchall()


def _of(arms: Sequence[Arm], kind: str, most: int | None = None) -> Iterator[tuple[Any, ...]]:
    for name, values in arms:
        if name == kind:
            yield values if most is None else (*values, most)
        elif name == "due_limited" and kind == "due":
            yield values


def _arms(found: Iterable[tuple[str, str | None, int]]) -> str:
    rows = [{"queue": queue, "name": name, "most": most} for queue, name, most in found]
    return msgspec.json.encode(rows).decode()


def take(connection: Connection, owner: int, rows: list[Row], now: Instant) -> list[Row]:
    """A `Take`: what another transaction holds is not taken."""
    taken = connection.execute(OWN["take_these"], (owner, now.wall_us, as_json(row[ID] for row in rows)))
    ids = {job_id for (job_id,) in taken.fetchall()}
    return rows if len(ids) == len(rows) else [row for row in rows if row[ID] in ids]


HOT_PATH = HotPath(record, open_due, take)


# ---------------------------------------------------------------- inserts


def insert_once(connection: Connection, job: NewJob, now: Instant, key: int) -> tuple[int, tuple[Any, ...]]:
    """Insert a job with a small payload, in one statement; again with the same key, find it. Its id and its row."""
    row = new_job_row(job, stored_json(job.payload), now.wall_us)
    job_id = connection.execute(OWN["insert_once"], (*row, key)).lastrowid
    if job_id is None:
        job_id = connection.execute(OWN["id_of_enqueue"], (key,)).fetchone()[0]
    return job_id, row


def insert_alike(
    connection: Connection, template: NewJob, payloads: Sequence[bytes], now: Instant
) -> Sequence[int]:
    """Insert one job per payload; the jobs differ in nothing else. Their ids grow in the order of the payloads."""
    *constants, _payload = new_job_row(template, None, now.wall_us)
    # A large one need not stand apart: PostgreSQL itself keeps it out of the row.
    texts_ = texts([payload.decode() for payload in payloads])
    ids = [row[0] for row in connection.execute(OWN["insert_alike"], (*constants, texts_)).fetchall()]
    # Mostly; single jobs that others enqueue at the same time may take some in between.
    is_gapless = ids[-1] - ids[0] == len(ids) - 1
    return range(ids[0], ids[-1] + 1) if is_gapless else ids

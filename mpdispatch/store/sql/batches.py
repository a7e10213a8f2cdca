"""Batches of an SQL store: what `store.batches.BatchStore` promises."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from mpdispatch.clock import Clock, Instant
from mpdispatch.errors import BatchNotFoundError
from mpdispatch.model import (
    BATCH_EVENTS,
    BatchInfo,
    Callback,
    Enqueued,
    Job,
    JobState,
    Member,
    NewBatch,
    NewJob,
    Page,
)
from mpdispatch.model.batch import counts_of
from mpdispatch.store.filters import BatchFilter
from mpdispatch.store.sql import dead_letters, follow_ups, inserts, reads, rounds
from mpdispatch.store.sql.candidates import as_json
from mpdispatch.store.sql.columns import BATCH_COLUMNS
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.follow_ups import Followed, Judged
from mpdispatch.store.sql.mending import mended
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.rounds import Step, Steps, read_step
from mpdispatch.store.sql.rows import moment, state_named
from mpdispatch.store.sql.sessions import ClientSessions
from mpdispatch.store.sql.wakes import Wakes

_AT_ONCE = 500
"""Jobs enqueued again per transaction."""
_BY_ID = QUERIES["batches"] + "\nWHERE id = ?"
_FIELDS = tuple(column.name for column in BATCH_COLUMNS)
_FIRST_ID = -(1 << 63)


class SQLBatches:
    """A `BatchStore` on the sessions of a store's clients."""

    def __init__(self, sessions: ClientSessions, clock: Clock, wakes: Wakes) -> None:
        self._sessions, self._clock, self._wakes = sessions, clock, wakes

    def open(self, new: NewBatch) -> BatchInfo:
        def work(connection: Connection) -> BatchInfo:
            now = self._clock.now()
            return get(connection, open_batch(connection, new, now), now)

        return self._sessions.create(work, "open_batch")

    def close(self, batch_id: int) -> BatchInfo:
        def work(connection: Connection) -> tuple[BatchInfo, bool]:
            now = self._clock.now()
            has_due = close(connection, batch_id, now).has_due
            return get(connection, batch_id, now), has_due

        found, has_due = self._sessions.write(work, "close_batch")
        if has_due:
            self._wakes.supervisors()
        self._wakes.waiting_clients()
        return found

    def get(self, batch_id: int) -> BatchInfo:
        return self._sessions.read(lambda c: get(c, batch_id, self._clock.now()))

    def with_key(self, key: str) -> BatchInfo | None:
        def work(connection: Connection) -> BatchInfo | None:
            row = connection.execute(QUERIES["batch_of_key"], (key,)).fetchone()
            return None if row is None else get(connection, row[0], self._clock.now())

        return self._sessions.read(work)

    def page(self, where: BatchFilter, *, limit: int, cursor: str | None) -> Page[BatchInfo]:
        before_id = reads.place_of(cursor, limit)
        terms, values = list[str](), list[Any]()
        for term, value in (("name = ?", where.name), ("id < ?", before_id)):
            if value is not None:
                terms.append(term)
                values.append(value)
        if where.has_ended is not None:
            terms.append(f"ended_at_us IS {'NOT ' if where.has_ended else ''}NULL")
        chosen = f"\nWHERE {' AND '.join(terms)}" if terms else ""
        text = f"{QUERIES['batches']}{chosen}\nORDER BY id DESC LIMIT ?"

        def work(connection: Connection) -> Page[BatchInfo]:
            rows = connection.execute(text, [*values, limit + 1]).fetchall()
            found = _infos(connection, rows[:limit], self._clock.now())
            return Page(items=found, next_cursor=str(found[-1].id) if len(rows) > limit else None)

        return self._sessions.read(work)

    def cancel(self, batch_id: int) -> BatchInfo:
        def mark(connection: Connection) -> None:
            now = self._clock.now()
            get(connection, batch_id, now)
            connection.execute(QUERIES["mark_cancelled"], (now.wall_us, batch_id))

        self._sessions.write(mark, "cancel_batch")

        def step(connection: Connection) -> bool:
            return follow_ups.cancel_some(connection, self._clock.now(), batch_id)[1]

        while self._sessions.write(step, "cancel_members"):
            pass  # in short transactions, so that others can write
        self._wakes.supervisors()
        self._wakes.waiting_clients()
        return self.get(batch_id)

    def retry(self, batch_id: int, *, on_retry: Callable[[Sequence[Job]], object] | None = None) -> int:
        self.get(batch_id)
        count = rounds.run(self._sessions, retrying(batch_id, self._clock, on_retry), "retry_members")
        self._wakes.supervisors()
        return count

    def members(self, batch_id: int, *, after_id: int, limit: int) -> list[Member]:
        rows = self._sessions.read(
            lambda c: c.execute(QUERIES["members"], (batch_id, after_id, limit)).fetchall()
        )
        return [Member(row[0], state_named(row[1]), *row[2:]) for row in rows]


# ---------------------------------------------------------------- opening and closing


def open_batch(connection: Connection, new: NewBatch, now: Instant) -> int:
    """The id of a new batch, or of the one that has its key."""
    if new.key is not None and (row := connection.execute(QUERIES["batch_of_key"], (new.key,)).fetchone()):
        return int(row[0])
    values = (new.name, new.key, new.max_fails, new.max_fail_share, now.wall_us)
    batch_id = connection.execute(QUERIES["open_batch"], values).lastrowid
    assert batch_id is not None
    rows = [
        (batch_id, event, job.name, msgspec.json.encode(msgspec.structs.replace(job, payload=b"")).decode())
        for event, job in new.callbacks.items()
    ]
    connection.executemany(QUERIES["insert_callback"], rows)
    return batch_id


def enqueue(
    connection: Connection,
    jobs: Sequence[NewJob],
    batch: NewBatch | int | None,
    now: Instant,
    insert_alike: inserts.InsertAlike,
    *,
    closes: bool,
) -> Enqueued:
    """Insert jobs as members of this batch, a new one if it is not a number."""
    if batch is None:
        batch = NewBatch(name=jobs[0].name)
    batch_id = batch if isinstance(batch, int) else open_batch(connection, batch, now)
    ids = inserts.insert_many(connection, jobs, now, batch_id, insert_alike) if jobs else []
    if closes:
        close(connection, batch_id, now)
    return Enqueued(batch_id, ids)


def close(connection: Connection, batch_id: int, now: Instant) -> Followed:
    """The batch takes no more members. It may have ended by that, or failed too often."""
    followed = Followed()
    connection.execute(QUERIES["close_batch"], (batch_id,))
    row = connection.execute(QUERIES["judged_batch"], (batch_id,)).fetchone()
    if row is None:
        raise BatchNotFoundError(batch_id)
    cancelled = follow_ups.judge(connection, Judged(*row), now, followed, is_worse=True)
    more = follow_ups.run(connection, cancelled, now)
    followed.has_due = followed.has_due or more.has_due
    return followed


# ---------------------------------------------------------------- steps over many members


def retrying(
    batch_id: int, clock: Clock, on_retry: Callable[[Sequence[Job]], object] | None = None
) -> Steps[int]:
    """Enqueues the failed members of a batch again. Comes to their number; `on_retry` is told of the new jobs."""
    total, after = 0, _FIRST_ID
    while True:
        values = {"id": batch_id, "after": after, "limit": _AT_ONCE}
        ids = [row[0] for row in (yield read_step("failed_members", values))]
        if not ids:
            return total

        def step(connection: Connection, ids: Sequence[int] = ids) -> list[Job]:
            made = [dead_letters.enqueue_again(connection, each, clock.now()) for each in ids]
            return [job for job in made if job is not None and job.created]

        made = yield Step(step, is_write=True)
        if on_retry is not None:
            on_retry(made)
        total += len(made)
        after = ids[-1]


# ---------------------------------------------------------------- reading


def get(connection: Connection, batch_id: int, now: Instant) -> BatchInfo:
    """Raises BatchNotFoundError."""
    if not 0 < batch_id < 1 << 63:
        raise BatchNotFoundError(batch_id)
    rows = connection.execute(_BY_ID, (batch_id,)).fetchall()
    if not rows:
        raise BatchNotFoundError(batch_id)
    return _infos(connection, rows, now)[0]


def _infos(connection: Connection, rows: Iterable[Sequence[Any]], now: Instant) -> list[BatchInfo]:
    found = [dict(zip(_FIELDS, mended(BATCH_COLUMNS, row), strict=True)) for row in rows]
    current = [each["id"] for each in found if each["ended_at_us"] is None]
    running = dict[int, tuple[int, int | None]]()
    later = dict[int, dict[JobState, int]]()
    if current:
        for batch_id, count, started_at_us in connection.execute(QUERIES["running_members"]):
            running[batch_id] = count, started_at_us
        if connection.execute(QUERIES["has_later_members"]).fetchone()[0]:
            for batch_id, state, count in connection.execute(QUERIES["later_members"], (as_json(current),)):
                later.setdefault(batch_id, {})[state_named(state)] = count
    callbacks = dict[int, dict[str, Callback]]()
    for batch_id, event, name, job_id in connection.execute(
        QUERIES["callbacks_of"], (as_json(each["id"] for each in found),)
    ):
        callbacks.setdefault(batch_id, {})[event] = Callback(name, job_id)
    return [
        _info(
            each,
            running.get(each["id"], (0, None)),
            later.get(each["id"], {}),
            callbacks.get(each["id"], {}),
            now,
        )
        for each in found
    ]


def _info(
    row: dict[str, Any],
    running: tuple[int, int | None],
    later: dict[JobState, int],
    callbacks: dict[str, Callback],
    now: Instant,
) -> BatchInfo:
    count, running_since_us = running
    ended = {JobState(state): row[state] for state in ("completed", "failed", "cancelled")}
    starts = [us for us in (row["started_at_us"], running_since_us) if us is not None]
    return BatchInfo(
        id=row["id"],
        name=row["name"],
        created_at=moment(row["created_at_us"]),
        started_at=moment(min(starts)) if starts else None,
        ended_at=None if row["ended_at_us"] is None else moment(row["ended_at_us"]),
        is_open=bool(row["is_open"]),
        cancelled_at=None if row["cancelled_at_us"] is None else moment(row["cancelled_at_us"]),
        total=row["total"],
        counts=counts_of(total=row["total"], ended=ended, running=count, later=later),
        callbacks={event: callbacks[event] for event in BATCH_EVENTS if event in callbacks},
        max_fails=row["max_fails"],
        max_fail_share=row["max_fail_share"],
        read_at=moment(now.wall_us),
    )

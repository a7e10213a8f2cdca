"""Dead letters: reading, replaying and purging them; enqueueing any ended job again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, TypeVar

from mpdispatch.clock import Clock, Instant
from mpdispatch.errors import DeadLetterNotFoundError, JobNotFoundError
from mpdispatch.failpoints import failpoint
from mpdispatch.model import DeadLetter, Failure, Job, Page
from mpdispatch.store.filters import DeadLetterFilter
from mpdispatch.store.sql import cron_slots, dependents, members, reads
from mpdispatch.store.sql.connection import Connection, Work
from mpdispatch.store.sql.mending import Column, mended
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.rows import Row, error_of, moment

T = TypeVar("T")

_LETTER_COLUMNS = (
    Column("job_id", "integer"),
    Column("failed_at_us", "time"),
    Column("closed_at_us", "time", field="replayed_at"),
    Column("replayed_as", "integer"),
)
_FAILURE_COLUMNS = (*_LETTER_COLUMNS, Column("id", "integer"), Column("name", "text"))
_MEMBER = "(SELECT j.batch_id FROM mpdispatch_jobs AS j WHERE j.id = job_id) = ?"
_SHOWN = {
    False: "closed_at_us IS NULL",
    True: "replayed_as IS NOT NULL",
    None: "(closed_at_us IS NULL OR replayed_as IS NOT NULL)",
}
"""Conditions for `DeadLetterFilter.is_replayed`. None of them shows a purged letter."""
_PURGE_AT_ONCE = 500
"""Rows per transaction: a claim waits at most some milliseconds for it."""


# ---------------------------------------------------------------- reading


def page_statement(
    where: DeadLetterFilter, before_id: int | None, *, with_error: bool = False
) -> tuple[str, list[Any]]:
    """The statement that finds the letters, and its parameters. Column names are ours, values are bound."""
    terms, values = [_SHOWN[where.is_replayed]], list[Any]()
    for term, value in (
        ("queue = ?", where.queue),
        ("name = ?", where.name),
        ("failed_at_us < ?", where.failed_before_us),
        (_MEMBER, where.batch_id),
        ("id < ?", before_id),
    ):
        if value is not None:
            terms.append(term)
            values.append(value)
    columns = QUERIES["failures" if with_error else "letters"]
    return f"{columns}\nWHERE {' AND '.join(terms)}\nORDER BY id DESC", values


def _rows(
    connection: Connection,
    where: DeadLetterFilter,
    before_id: int | None,
    limit: int,
    *,
    with_error: bool = False,
) -> list[Row]:
    """The next letters, at most `limit`. The error is looked at row by row, so that few are in memory at a time."""
    with_error = with_error or where.error is not None
    statement, values = page_statement(where, before_id, with_error=with_error)
    rows: Iterable[Row] = connection.execute(statement, values)
    if where.error is not None:
        error = where.error
        rows = (row for row in rows if error in str(error_of(row[6]) or ""))
    return list(islice(rows, limit))


def page(connection: Connection, where: DeadLetterFilter, limit: int, cursor: str | None) -> Page[DeadLetter]:
    rows = _rows(connection, where, reads.place_of(cursor, limit), limit + 1)
    letters = [found for row in rows[:limit] if (found := _letter(connection, row)) is not None]
    return Page(items=letters, next_cursor=_next_cursor(rows, limit))


def failures(connection: Connection, where: DeadLetterFilter, limit: int, cursor: str | None) -> Page[Failure]:
    rows = _rows(connection, where, reads.place_of(cursor, limit), limit + 1, with_error=True)
    return Page(items=[_failure(row) for row in rows[:limit]], next_cursor=_next_cursor(rows, limit))


def _next_cursor(rows: Sequence[Row], limit: int) -> str | None:
    return str(rows[limit - 1][4]) if len(rows) > limit else None


def _failure(row: Row) -> Failure:
    error = error_of(row[6])
    job_id, failed_at_us, *_, name = mended(_FAILURE_COLUMNS, row[:6])
    return Failure(
        id=job_id,
        name=name,
        failed_at_us=failed_at_us,
        type="" if error is None else error.type,
        message="" if error is None else error.message,
    )


def _letter(connection: Connection, row: Row) -> DeadLetter | None:
    try:
        job = reads.job(connection, row[0])
    except JobNotFoundError:
        return None  # pruned between the two reads
    row = mended(_LETTER_COLUMNS, row)
    return DeadLetter(
        id=job.id,
        job=job,
        failed_at=moment(row[1]),
        replayed_at=None if row[2] is None else moment(row[2]),
        replayed_as=row[3],
    )


def letter(connection: Connection, job_id: int) -> DeadLetter:
    row = connection.execute(
        QUERIES["letters"] + f"\nWHERE job_id = ? AND {_SHOWN[None]}", (job_id,)
    ).fetchone()
    found = None if row is None else _letter(connection, row)
    if found is None:
        raise DeadLetterNotFoundError(job_id)
    return found


def count(connection: Connection, queue: str | None) -> int:
    if queue is None:
        return int(connection.execute(QUERIES["dead_letter_count"]).fetchone()[0])
    return int(connection.execute(QUERIES["count_open"], (queue,)).fetchone()[0])


# ---------------------------------------------------------------- again


def enqueue_again(connection: Connection, job_id: int, now: Instant) -> Job | None:
    """A new job like this failed or cancelled one, or the one made before; None if it is in another state.

    If the job made before was pruned, a new one is made.
    """
    row = connection.execute(QUERIES["retried_as"], (job_id,)).fetchone()
    if row is not None:
        return reads.job(connection, row[0], created=False)
    made = connection.execute(QUERIES["enqueue_again"], {"id": job_id, "now": now.wall_us})
    if not made.rowcount:
        return None
    new_id = made.lastrowid
    assert new_id is not None
    connection.execute(QUERIES["copy_payload"], (new_id, job_id))
    members.replace(connection, job_id)
    connection.execute(QUERIES["mark_retried"], (new_id, job_id))
    dependents.add_again(connection, job_id, new_id)
    connection.execute(QUERIES["wait_for_the_retry"], {"old_id": job_id, "new_id": new_id})
    failpoint("retry.after_insert")
    connection.execute(QUERIES["replay_dead_letter"], {"now": now.wall_us, "new_id": new_id, "job_id": job_id})
    cron_slots.retry(connection, job_id, new_id)
    return reads.job(connection, new_id)


def replay(connection: Connection, job_id: int, now: Instant) -> Job:
    letter(connection, job_id)
    job = enqueue_again(connection, job_id, now)
    if job is None:
        raise DeadLetterNotFoundError(job_id)
    return job


# ---------------------------------------------------------------- away


def purge(
    read: Callable[[Work[list[int]]], list[int]],
    write: Callable[[Work[int]], int],
    where: DeadLetterFilter,
    clock: Clock,
) -> int:
    """Close matching dead letters for good. Finds them without the write lock; closes a few hundred per transaction.

    Closes only those present at the beginning: jobs that fail meanwhile keep theirs. The rows stay until their jobs
    are pruned, as they hold when that may be.
    """

    def found(connection: Connection) -> list[int]:
        return [row[4] for row in _rows(connection, where, before, _PURGE_AT_ONCE)]

    def close(connection: Connection) -> int:
        now_us = clock.now().wall_us
        return connection.executemany(QUERIES["purge_dead_letter"], [(now_us, each) for each in ids]).rowcount

    before, purged = None, 0
    while ids := read(found):
        purged += write(close)
        before = ids[-1]
    return purged

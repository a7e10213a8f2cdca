"""Reads of clients. A read that needs one snapshot is one statement."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any

from mpdispatch.clock import Instant
from mpdispatch.errors import JobNotFoundError, UsageError
from mpdispatch.ids import boot_id
from mpdispatch.model import Attempt, Job, JobState, Page, PeerSupervisor
from mpdispatch.store.filters import JobFilter
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.mending import texts
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.rows import attempt_of, job_of, state_named, supervisor_of
from mpdispatch.store.values import QueueStats

_JOBS = QUERIES["jobs"]
_IDS = "SELECT id FROM mpdispatch_jobs"
_ARM = "SELECT id FROM ({}) AS arm"
# A page of one state is first searched in this many of the newest rows: 1 ms.
_NEWEST = 5000
_IDS_AT_ONCE, _MOST_ID = 10_000, (1 << 63) - 1
_BY_ID = _JOBS + "\nWHERE id = ?"


def job(connection: Connection, job_id: int, *, created: bool = True) -> Job:
    row = connection.execute(_BY_ID, (job_id,)).fetchone()
    if row is None:
        raise JobNotFoundError(job_id)
    return job_of(row, created=created)


def state_of(connection: Connection, job_id: int) -> JobState:
    row = connection.execute(QUERIES["state_of"], (job_id,)).fetchone()
    if row is None:
        raise JobNotFoundError(job_id)
    return state_named(row[0])


def ended(connection: Connection, job_ids: Collection[int]) -> dict[int, JobState | None]:
    # No row can have the others.
    possible = [job_id for job_id in job_ids if abs(job_id) <= _MOST_ID]
    found: dict[int, JobState | None] = {}
    if len(possible) < len(job_ids):
        found = dict.fromkeys(set(job_ids).difference(possible))
    for some in _chunks(possible):
        for job_id, is_there, state in connection.execute(QUERIES["ended"], (some,)):
            found[job_id] = state_named(state) if is_there else None
    return found


def _chunks(job_ids: Collection[int]) -> Iterator[str]:
    """The ids as texts of JSON, which name at most some thousand each: a read keeps the log from being cut."""
    ids = iter(job_ids)
    while some := list(islice(ids, _IDS_AT_ONCE)):
        yield str(some)


def attempts(connection: Connection, job_id: int) -> list[Attempt]:
    found = [attempt_of(row) for row in connection.execute(QUERIES["attempts"], (job_id,))]
    if not found:
        state_of(connection, job_id)
    return found


def page_statements(where: JobFilter, before_id: int | None, limit: int) -> list[tuple[str, list[Any]]]:
    """The statements of a page, to be tried in order until one returns `limit` rows; the last one always counts.

    Column names are ours, values are bound.
    """
    terms, values = list[str](), list[Any]()
    for column, value in (("queue", where.queue), ("name", where.name), ("batch_id", where.batch_id)):
        if value is not None:
            terms.append(f"{column} = ?")
            values.append(value)
    if where.batch_id is not None:
        terms.append("retried_as IS NULL")
    # `+id` in statements that use an index with another order: else SQLite scans the table by this term.
    in_place = list(terms)
    if before_id is not None:
        terms.append("id < ?")
        in_place.append("+id < ?")
        values.append(before_id)
    state = where.state
    if state is None:
        return [_page(terms, values, limit)]
    # No index orders these by id. If they are many, the newest rows contain enough; if they are few, all of them
    # are read (a million entries: 0.1 s), but never the rows of other states.
    top = "(SELECT max(id) FROM mpdispatch_jobs)" if before_id is None else str(before_id)
    newest = _page(["state = ?", f"id > {top} - {_NEWEST}", *terms], [str(state), *values], limit)
    arms = [_page([place, *in_place], values, limit, _IDS, "+id") for place in _places(state)]
    ids = " UNION ALL ".join(_ARM.format(text) for text, _ in arms)
    rest = _page([f"id IN ({ids})"], [value for _, each in arms for value in each], limit)
    # Running jobs are always few.
    return [rest] if state is JobState.RUNNING else [newest, rest]


def _places(state: JobState) -> Sequence[str]:
    """Conditions on the jobs in this state, each with an index of its own."""
    match state:
        case JobState.RUNNING:
            return ["owner IS NOT NULL"]
        case JobState.PENDING:
            return ["lane = 1", "lane = 3", "id IN (SELECT job_id FROM mpdispatch_dependents)"]
        case JobState.SCHEDULED | JobState.RETRYING:
            return [f"lane = 2 AND state = '{state}'"]
        case _:
            return [f"completed_at_us IS NOT NULL AND state = '{state}'"]


def _page(
    terms: Sequence[str], values: Sequence[Any], limit: int, select: str = _JOBS, order: str = "id"
) -> tuple[str, list[Any]]:
    where = "\nWHERE " + " AND ".join(terms) if terms else ""
    return f"{select}{where}\nORDER BY {order} DESC LIMIT ?", [*values, limit]


def place_of(cursor: str | None, limit: int) -> int | None:
    """Where the page before ended; None for the first page. Raises UsageError on an invalid cursor or limit."""
    if limit < 1:
        raise UsageError(f"limit must be 1 or more, not {limit}")
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= 18):
        raise UsageError(f"{cursor[:60]!r} is no cursor; use the next_cursor of a page")
    return int(cursor)


def page(connection: Connection, where: JobFilter, limit: int, cursor: str | None) -> Page[Job]:
    before_id = place_of(cursor, limit)
    rows = list[Any]()
    # An extra row shows whether there is another page.
    for statement, values in page_statements(where, before_id, limit + 1):
        rows = connection.execute(statement, values).fetchall()
        if len(rows) > limit:
            break
    jobs = [job_of(row) for row in rows[:limit]]
    return Page(items=jobs, next_cursor=str(jobs[-1].id) if len(rows) > limit else None)


def _counts(connection: Connection) -> dict[str, dict[JobState, int]]:
    """Number of jobs per state, by queue."""
    found = dict[str, dict[JobState, int]]()
    for queue, state, count in connection.execute(QUERIES["counts"]):
        found.setdefault(texts(queue), dict.fromkeys(JobState, 0))[state_named(state)] += count
    return found


def counts(connection: Connection) -> dict[JobState, int]:
    queues = _counts(connection).values()
    return {state: sum(queue[state] for queue in queues) for state in JobState}


def queue_stats(connection: Connection) -> list[QueueStats]:
    jobs = _counts(connection)
    is_paused = {texts(name): bool(flag) for name, flag in connection.execute(QUERIES["queues"])}
    none = dict.fromkeys(JobState, 0)
    return [
        QueueStats(
            name=name,
            is_paused=is_paused.get(name, False),
            jobs={str(state): count for state, count in jobs.get(name, none).items()},
        )
        for name in sorted({*jobs, *is_paused})
    ]


def supervisor(connection: Connection, owner: int, now: Instant) -> PeerSupervisor | None:
    row = connection.execute(QUERIES["supervisor"], (owner,)).fetchone()
    return None if row is None else supervisor_of(row, now, boot_id())


def supervisors(connection: Connection, now: Instant) -> list[PeerSupervisor]:
    return [supervisor_of(row, now, boot_id()) for row in connection.execute(QUERIES["supervisors"])]

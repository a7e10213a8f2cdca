"""What clients read. Each is one statement where it must be one snapshot."""

from __future__ import annotations

from typing import Any

from mpdispatch import sqlite3
from mpdispatch.errors import JobNotFoundError, UsageError
from mpdispatch.model import Attempt, Job, JobState, Page, PeerSupervisor
from mpdispatch.store.base import JobFilter, QueueStats
from mpdispatch.store.sqlite.queries import QUERIES
from mpdispatch.store.sqlite.rows import attempt_of, job_of, supervisor_of

__all__ = ["attempts", "counts", "job", "page", "page_statement", "queue_stats", "state_of", "supervisors"]

Executes = sqlite3.Connection | sqlite3.Cursor

_BY_ID = QUERIES["jobs"] + "\nWHERE j.id = ?"


def job(connection: Executes, job_id: int, *, created: bool = True) -> Job:
    row = connection.execute(_BY_ID, (job_id,)).fetchone()
    if row is None:
        raise JobNotFoundError(job_id)
    return job_of(row, created=created)


def state_of(connection: Executes, job_id: int) -> JobState:
    row = connection.execute(QUERIES["state_of"], (job_id,)).fetchone()
    if row is None:
        raise JobNotFoundError(job_id)
    return JobState(row[0])


def attempts(connection: Executes, job_id: int) -> list[Attempt]:
    found = [attempt_of(row) for row in connection.execute(QUERIES["attempts"], (job_id,))]
    if not found:
        state_of(connection, job_id)
    return found


def page_statement(where: JobFilter, before_id: int | None, limit: int) -> tuple[str, list[Any]]:
    """The statement of one page and its parameters. Column names are ours, values are bound."""
    terms, values = list[str](), list[Any]()
    if where.state is JobState.RUNNING:
        terms.append("j.state = 'running'")
    elif where.state is not None:
        # The second term is what the partial index is found by.
        terms.append("j.state = ? AND j.state <> 'running'")
        values.append(str(where.state))
    for column, value in (("queue", where.queue), ("name", where.name)):
        if value is not None:
            terms.append(f"j.{column} = ?")
            values.append(value)
    if before_id is not None:
        terms.append("j.id < ?")
        values.append(before_id)
    statement = QUERIES["jobs"]
    if terms:
        statement += "\nWHERE " + " AND ".join(terms)
    return statement + "\nORDER BY j.id DESC LIMIT ?", [*values, limit + 1]


def page(connection: Executes, where: JobFilter, limit: int, cursor: str | None) -> Page[Job]:
    if limit < 1:
        raise UsageError(f"limit must be 1 or more, not {limit}")
    if cursor is not None and not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= 18):
        raise UsageError(f"{cursor!r} is no cursor; use the next_cursor of a page")
    statement, values = page_statement(where, None if cursor is None else int(cursor), limit)
    jobs = [job_of(row) for row in connection.execute(statement, values)]
    has_more = len(jobs) > limit
    jobs = jobs[:limit]
    return Page(items=jobs, next_cursor=str(jobs[-1].id) if has_more else None)


def counts(connection: Executes) -> dict[JobState, int]:
    found = dict.fromkeys(JobState, 0)
    for state, count in connection.execute(QUERIES["counts"]):
        found[JobState(state)] = count
    return found


def queue_stats(connection: Executes) -> list[QueueStats]:
    jobs = dict[str, dict[str, int]]()
    for queue, state, count in connection.execute(QUERIES["queue_counts"]):
        jobs.setdefault(queue, {str(each): 0 for each in JobState})[state] = count
    is_paused = {name: bool(flag) for name, flag in connection.execute(QUERIES["queues"])}
    return [
        QueueStats(
            name=name,
            is_paused=is_paused.get(name, False),
            jobs=jobs.get(name, {str(each): 0 for each in JobState}),
        )
        for name in sorted({*jobs, *is_paused})
    ]


def supervisors(connection: Executes) -> list[PeerSupervisor]:
    return [supervisor_of(row) for row in connection.execute(QUERIES["supervisors"])]

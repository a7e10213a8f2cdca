"""Unreadable rows: each is ended as a dead letter that says why; other jobs are not affected.

Nothing searches for them in normal operation. A commit that meets one is rolled back; then its rows are checked one by
one, here, and the commit is repeated.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from mpdispatch.clock import EARLIEST_US, LATEST_US, Instant
from mpdispatch.model import UNREADABLE, Cause, ClaimedJob, ClaimRequest, ErrorInfo, JobState, Transition
from mpdispatch.store.sql import lost_dependents
from mpdispatch.store.sql.candidates import PARK_AT_MOST, OddRowError, as_json, claimable_parked
from mpdispatch.store.sql.columns import EXAMINED_COLUMNS, RUN_COLUMNS
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.finish import tidy_running
from mpdispatch.store.sql.follow_ups import Ended, Followed, run_for
from mpdispatch.store.sql.mending import faults_of, has_bad_text, mended
from mpdispatch.store.sql.queries import QUERIES as SHARED
from mpdispatch.store.sql.rows import encode_error, stored_json
from mpdispatch.store.sql.text import lenient_text
from mpdispatch.store.sqlite.queries import QUERIES
from mpdispatch.store.sqlite.translate import INTEGRITY_ERRORS

INSERT_DEAD_LETTER = SHARED["insert_dead_letter"].replace("INSERT", "INSERT OR IGNORE", 1)
"""Unless the job already has one."""

SUSPECTS: tuple[type[Exception], ...] = (OddRowError, *INTEGRITY_ERRORS)
"""Errors of a commit that meets such a row: it cannot be claimed, or a constraint refuses it."""

LOST = "it waits for other jobs, but none is left whose end would release it"
_STATES = frozenset(state.value for state in JobState)
_AT_ONCE = 1000
LOOK_AT_MOST = 2000
"""Rows per call of `astray`."""
_LOG = logging.getLogger(__name__)


class _Row(NamedTuple):
    """The first columns of the query `rows`."""

    id: int
    starts: int
    attempt: int
    name: str | bytes
    queue: str | bytes
    priority: int
    run_at_us: int
    max_retries: int
    timeout_us: int | None
    idempotency_key: str | bytes | None
    trace_context: str | bytes | None
    slot_us: int | None
    expires_at_us: int | None
    state: Any
    lane: int | None
    owner: int | None
    completed_at_us: int | None
    duration_us: int | None
    blocked_reason: str | bytes | None


_WIDTH, _STATE = len(_Row._fields), _Row._fields.index("state")
assert _Row._fields == tuple(column.name for column in EXAMINED_COLUMNS[:_WIDTH])


def _faults(row: _Row) -> list[str]:
    """Why the row cannot be read."""
    faults = faults_of(RUN_COLUMNS, row)
    if isinstance(row.state, str) and row.state not in _STATES:
        faults.append(f"column state holds {row.state[:40]!r}, which is no state")
    if not faults and row.attempt > row.starts:
        faults.append(f"column attempt holds {row.attempt}, more than starts ({row.starts})")
    if not faults and row.state == "running" and row.attempt == 0:
        # A claim adds one attempt, and a release subtracts it.
        faults.append("column attempt holds 0, but the job is running")
    return faults


def _contradictions(row: _Row) -> list[str]:
    """Columns that contradict the row's state, which is a valid one."""
    state = JobState(row.state)
    lane: int | None = None
    if state is JobState.PENDING:
        lane = row.lane if row.lane in (3, 4) else 1
    elif state in (JobState.SCHEDULED, JobState.RETRYING):
        lane = 2
    wrong: list[tuple[str, object]] = [] if row.lane == lane else [("lane", row.lane)]
    if (row.blocked_reason is not None) is not (lane == 3):
        wrong.append(("blocked_reason", row.blocked_reason))
    if (row.owner is not None) is not (state is JobState.RUNNING):
        wrong.append(("owner", row.owner))
    if (row.completed_at_us is not None) is not state.is_terminal:
        wrong.append(("completed_at_us", row.completed_at_us))
    if row.duration_us is not None and state is not JobState.COMPLETED:
        wrong.append(("duration_us", row.duration_us))
    return [f"column {name} holds {value!r:.60}, but the job is {state}" for name, value in wrong]


# ---------------------------------------------------------------- ending them


def waiting(connection: Connection, request: ClaimRequest, now: Instant) -> set[int]:
    """Ids of the rows a commit would read: due, to be staged, or parked and able to run here."""
    found = set[int]()

    def look(query: str, *values: object) -> None:
        found.update(row[0] for row in connection.execute(QUERIES[query], values))

    most = request.slots + PARK_AT_MOST
    for queue in request.queues:
        look("due_ids", queue, most)
        for state in ("scheduled", "retrying"):
            look("later_ids", queue, state, now.wall_us, most)
    for name, queue in claimable_parked(connection, request, request.queues):
        look("parked_ids", name, queue, most)
    return found


def _rows(connection: Connection, ids: Iterable[int]) -> list[_Row]:
    with lenient_text(connection):
        found = connection.execute(QUERIES["examined_rows"], (as_json(ids),))
        return [_Row(*row[:_WIDTH]) for row in found]


def set_aside(
    connection: Connection, ids: Iterable[int], now: Instant, *, are_claimed: bool = False
) -> tuple[Followed, int]:
    """End the unreadable ones of these rows. Returns them and what followed, and the number of other rows repaired.

    Ended jobs keep their outcome and running jobs go on: a repair only takes them out of lanes where they do not belong.
    `are_claimed`: a supervisor owns the rows but does not hold the jobs (any more); then unreadable ones end too.
    """
    ended, tidied = list[Ended](), 0
    for row in _rows(connection, ids):
        connection.execute("SAVEPOINT mpdispatch_row")
        try:
            done = _set_aside(connection, row, now, are_claimed)
        except SUSPECTS as error:
            # A trigger of the database's owner refuses the change: leave this row as it is.
            connection.execute("ROLLBACK TO mpdispatch_row")
            _LOG.warning("job %d cannot be read and cannot be ended: %s", row.id, error)
            done = 0
        connection.execute("RELEASE mpdispatch_row")
        if isinstance(done, int):
            tidied += done
        else:
            ended.append(done)
    return run_for(connection, ended, now), tidied


def _set_aside(connection: Connection, row: _Row, now: Instant, is_claimed: bool) -> Ended | int:
    """`set_aside` for one row: how it was ended, or the number of rows repaired."""
    state = JobState(row.state) if row.state in _STATES else None
    if state is not None and state.is_terminal:
        if not _contradictions(row):
            return 0
        return connection.execute(QUERIES["tidy_ended"], (now.wall_us, row.id)).rowcount
    if state is JobState.RUNNING and not is_claimed:
        is_in_order = row.lane is None and row.owner is not None
        return 0 if is_in_order else tidy_running(connection, row.id)
    faults = _faults(row)
    if state is not None and state is not JobState.RUNNING:
        faults += _contradictions(row)
    return _end(connection, row, faults, now) if faults else 0


def _end(
    connection: Connection,
    row: _Row,
    faults: Sequence[str],
    now: Instant,
    state: JobState = JobState.FAILED,
) -> Ended:
    """End this row, by default as `failed` with a dead letter."""
    error = ErrorInfo(type=UNREADABLE, message=f"job {row.id}: {'; '.join(faults)}")
    values = (state.value, now.wall_us, stored_json(encode_error(error)), row.id)
    connection.execute(QUERIES["condemn"], values)
    if state is JobState.FAILED:
        connection.execute(INSERT_DEAD_LETTER, (now.wall_us, row.id))
    job = ClaimedJob(row.id, *mended(RUN_COLUMNS[:-1], row[:_STATE])[1:], b"{}")  # type: ignore[call-arg]
    transition = Transition(
        job_id=job.id,
        starts=job.starts,
        state=state,
        attempt=job.attempt,
        claim_attempt=job.attempt,
        cause=Cause.ERROR,
        at_us=now.wall_us,
        error=error,
    )
    return job, transition


def cancel(connection: Connection, job_id: int, now: Instant) -> bool:
    """Cancel a row with an invalid state; False: the state is valid, or there is no such row."""
    for row in _rows(connection, [job_id]):
        state = JobState(row.state) if row.state in _STATES else None
        is_held = state is JobState.RUNNING and row.owner is not None
        if state is None or not (state.is_terminal or is_held):
            faults = _faults(row) + ([] if state is None else _contradictions(row))
            ended = _end(connection, row, faults or ["it was cancelled"], now, JobState.CANCELLED)
            run_for(connection, [ended], now)
            return True
    return False


# ---------------------------------------------------------------- looking for them


class Astray(NamedTuple):
    """Ids of rows that no query finds, among the next rows by id."""

    rows: list[int]
    """A drain waits for such a row or overlooks it; a claim never reads it."""
    dependents: list[int]
    """They wait for parents, and nothing would release them."""
    last: int | None
    """The last id checked; None: there are no more rows."""


def astray(connection: Connection, queues: Sequence[str], after: int) -> Astray:
    """Look at the next rows by id. Some 1 ms."""
    values = (as_json(queues), after, LOOK_AT_MOST)
    last, count, *found = connection.execute(QUERIES["astray"], values).fetchone()
    rows, dependents = (msgspec.json.decode(each, type=list[int]) for each in found)
    return Astray(rows, dependents, last if count == LOOK_AT_MOST else None)


def faults(connection: Connection, job_id: int) -> list[str]:
    """Faults that keep a claim from reading or finding this job's row."""
    found = [fault for row in _rows(connection, [job_id]) for fault in _faults_shown(row)]
    return found or ([LOST] if lost_dependents.is_lost(connection, job_id) else [])


def _faults_shown(row: _Row) -> list[str]:
    return _faults(row) or _contradictions(row)


class Found(NamedTuple):
    """An unreadable row."""

    id: int
    fault: str
    has_ended: bool


def examined(connection: Connection) -> Iterator[Found]:
    """All unreadable rows, in the order of their ids. Reads the whole table: some 1 s for a million rows."""
    scanned = connection.execute(QUERIES["scan_rows"], {"earliest": EARLIEST_US, "latest": LATEST_US})
    odd = [row[0] for row in scanned if row[-1] or has_bad_text(row)]
    for at in range(0, len(odd), _AT_ONCE):
        for values in connection.execute(QUERIES["examined_rows"], (as_json(odd[at : at + _AT_ONCE]),)):
            row = _Row(*values[:_WIDTH])
            if faults := faults_of(EXAMINED_COLUMNS, values) or _faults_shown(row):
                yield Found(row.id, faults[0], row.completed_at_us is not None)

"""Recording outcomes in the supervisor's transaction: job row, attempt history, dead letter, large result.

The guard is in the UPDATE's WHERE, and the number of touched rows is checked. A backend records all
outcomes of a commit together (`hot_path.Record`); if a count is wrong, the commit is rolled back, and they are recorded
one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from mpdispatch.failpoints import failpoint
from mpdispatch.model import Cause, JobState, Run, Transition
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.rows import INLINE_BYTES, encode_error, lane_of, stored_json
from mpdispatch.store.values import Progress

_FINISH = QUERIES["finish"]


class SomeRejectedError(Exception):
    """At least one outcome belongs to a job that this owner has lost. Roll back."""


def split(transitions: Iterable[Transition]) -> tuple[list[Any], int, list[Transition]]:
    """The values of plain completions, nine for each, their number, and the other transitions."""
    values, others = list[Any](), list[Transition]()
    count = 0
    completed, by_return = JobState.COMPLETED, Cause.COMPLETED
    for each in transitions:
        run, result = each.run, each.result
        if (
            each.state is completed
            and each.cause is by_return
            and run is not None
            and result is not None
            and len(result) <= INLINE_BYTES
            # The view of attempts uses duration_us to tell that this row is the start's whole record.
            and run.duration_us is not None
            and each.attempt == each.claim_attempt
            and each.error is None
        ):
            values += (
                each.job_id,
                each.starts,
                each.at_us,
                run.started_us,
                stored_json(result),
                run.worker_pid,
                run.duration_us,
                run.cpu_us,
                run.max_rss_bytes,
            )
            count += 1
        else:
            others.append(each)
    return values, count, others


def row_of(owner: int, transition: Transition) -> tuple[Any, ...]:
    """Parameters of `finish`."""
    run, result, error = transition.run, transition.result, transition.error
    inline = result is not None and len(result) <= INLINE_BYTES
    is_terminal = transition.state.is_terminal
    return (
        is_terminal,
        transition.state.value,
        lane_of(transition.state),
        is_terminal,
        transition.at_us,
        transition.attempt,
        transition.run_at_us,
        run is not None or transition.cause is Cause.EXPIRED,
        None if run is None else run.started_us,
        stored_json(result) if result is not None and inline else None,
        error is not None,
        # The error of a start is stored in its attempt; the job row only holds an error without an attempt.
        None if error is None or transition.is_in_history else stored_json(encode_error(error)),
        None if run is None else run.worker_pid,
        None if run is None else run.cpu_us,
        None if run is None else run.max_rss_bytes,
        transition.job_id,
        owner,
        transition.starts,
    )


def record_one_by_one(
    connection: Connection, owner: int, transitions: Sequence[Transition]
) -> tuple[list[Transition], list[tuple[int, int]]]:
    """Write the transitions of this owner's jobs. Returns them, and (job id, starts) of the others, not written.

    Foreign rows in the place of their records are replaced.
    """
    accepted, rejected = list[Transition](), list[tuple[int, int]]()
    for transition in transitions:
        if _finish(connection, owner, transition) == 1:
            accepted.append(transition)
        else:
            rejected.append((transition.job_id, transition.starts))
    record_rest(connection, accepted, insert="INSERT OR REPLACE")
    return accepted, rejected


def _finish(connection: Connection, owner: int, transition: Transition) -> int:
    values = row_of(owner, transition)
    try:
        return connection.execute(_FINISH, values).rowcount
    except connection.IntegrityError:
        # The row has values that a running row must not have; the statement changed nothing.
        tidy_running(connection, transition.job_id)
        return connection.execute(_FINISH, values).rowcount


def tidy_running(connection: Connection, job_id: int) -> int:
    """Clear values of a running row that only other states may have. Returns the number of rows changed."""
    return connection.execute(QUERIES["tidy_running"], (job_id,)).rowcount


def record_rest(connection: Connection, transitions: Iterable[Transition], *, insert: str = "INSERT") -> None:
    """What else these leave behind: attempts, large results, dead letters."""
    failpoint("finish.after_rows")
    attempts, results, dead = list[Transition](), list[tuple[Any, ...]](), list[tuple[int, int]]()
    for each in transitions:
        result = each.result
        if each.is_in_history:
            attempts.append(each)
        if result is not None and len(result) > INLINE_BYTES:
            results.append((each.job_id, stored_json(result)))
        if each.state is JobState.FAILED:
            dead.append((each.at_us, each.job_id))
    if attempts:
        record_attempts(connection, attempts, insert=insert)
    failpoint("finish.after_attempts")
    if results:
        connection.executemany(_with(insert, QUERIES["insert_result"]), results)
    if dead:
        connection.executemany(_with(insert, QUERIES["insert_dead_letter"]), dead)
    failpoint("finish.before_commit")


def record_attempts(
    connection: Connection, transitions: Iterable[Transition], *, insert: str = "INSERT"
) -> None:
    """Add these to the histories of their jobs."""
    connection.executemany(_with(insert, QUERIES["insert_attempt"]), map(_attempt, transitions))


def _attempt(ended: Transition) -> tuple[Any, ...]:
    error = ended.error
    # An expired job was not begun: its entry is a moment.
    run = ended.run or Run(started_us=ended.at_us)
    return (
        ended.job_id,
        ended.starts,
        ended.claim_attempt,
        ended.cause.value,
        run.started_us,
        ended.at_us,
        run.duration_us,
        run.worker_pid,
        None if error is None else stored_json(encode_error(error)),
        ended.exit_status,
        ended.signal,
        run.cpu_us,
        run.max_rss_bytes,
    )


@cache
def _with(insert: str, statement: str) -> str:
    return insert + statement.removeprefix("INSERT")


def record_progress(connection: Connection, owner: int, progress: Sequence[Progress]) -> None:
    """Store progress that running handlers reported; late reports change nothing."""
    connection.executemany(
        QUERIES["progress"], [(stored_json(each.data), each.job_id, owner, each.starts) for each in progress]
    )

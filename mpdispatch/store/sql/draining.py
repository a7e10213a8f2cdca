"""Jobs that a drain waits for, and jobs that it leaves. Reads."""

from __future__ import annotations

from collections.abc import Iterable

from mpdispatch.store.sql.candidates import as_json
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.rows import WAITING_FOR_PARENTS, reason_of_pause
from mpdispatch.store.sql.status import counted
from mpdispatch.store.values import LeftBehind, Outstanding


def outstanding(connection: Connection, queues: Iterable[str]) -> Outstanding:
    """What a drain of these queues waits for; pending and retrying are counted up to 1000 per queue."""
    paused = _paused(connection)
    pending = sum(_count(connection, "outstanding_due", each) for each in queues if each not in paused)
    running = sum(_count(connection, "running_in", each) for each in queues)
    retrying = sum(_count(connection, "outstanding_retrying", each) for each in queues)
    # It counts them all, and a drain asks ten times a second.
    left = None if pending or running or retrying else _left_behind(connection, queues, paused)
    return Outstanding(pending, running, retrying, left)


def _left_behind(connection: Connection, queues: Iterable[str], paused: set[str]) -> LeftBehind:
    held = counted(connection.execute(QUERIES["parked_in"], (as_json(queues),)))
    if waiting := connection.execute(QUERIES["dependents_in"], (as_json(queues),)).fetchone()[0]:
        held[WAITING_FOR_PARENTS] = waiting
    for queue in queues:
        if queue in paused and (count := _count(connection, "due_in", queue)):
            held[reason_of_pause(queue)] = count
    return LeftBehind(held, sum(_count(connection, "scheduled_in", each) for each in queues))


def _paused(connection: Connection) -> set[str]:
    return {row[0] for row in connection.execute(QUERIES["paused"])}


def _count(connection: Connection, query: str, queue: str) -> int:
    return int(connection.execute(QUERIES[query], (queue,)).fetchone()[0])

"""Records the outcomes of a commit: its plain completions in one statement, the others in one `executemany`."""

from __future__ import annotations

from collections.abc import Sequence

from mpdispatch.model import Transition
from mpdispatch.store.sql.candidates import open_due
from mpdispatch.store.sql.claim import take
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.finish import SomeRejectedError, record_rest, row_of, split
from mpdispatch.store.sql.hot_path import HotPath
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sqlite.bulk import ManyRows
from mpdispatch.store.sqlite.queries import QUERIES as OURS

_COMPLETE = ManyRows(OURS["complete"])
_FINISH = QUERIES["finish"]


def record(connection: Connection, owner: int, transitions: Sequence[Transition]) -> None:
    """Write all transitions, or raise SomeRejectedError with the transaction half written."""
    values, count, others = split(transitions)
    if count and _COMPLETE.execute(connection, values, after=(owner,)) != count:
        raise SomeRejectedError
    if others:
        touched = connection.executemany(_FINISH, [row_of(owner, each) for each in others]).rowcount
        if touched != len(others):
            raise SomeRejectedError
    record_rest(connection, others)


HOT_PATH = HotPath(record, open_due, take)

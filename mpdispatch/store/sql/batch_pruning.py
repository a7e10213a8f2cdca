"""Deletes batches that ended long ago and whose members are all pruned. Steps for a `rounds.Round`."""

from __future__ import annotations

from collections.abc import Sequence

from mpdispatch.store.sql.candidates import as_json
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.rounds import Step, Steps, read_step

_ROWS = 500
"""Batches per step: about 1 ms."""
_FIRST = -(1 << 63)


def steps(before_us: int) -> Steps[None]:
    """Delete those that ended before this, with their callbacks. Reads none that was made later."""
    after = _FIRST
    while True:
        rows: list[tuple[int, int, int]] = yield read_step(
            "old_batches", {"after": after, "before": before_us, "limit": _ROWS}
        )
        if gone := [batch_id for batch_id, _, may_go in rows if may_go]:
            yield Step(lambda c, gone=gone: _delete(c, gone), is_write=True)  # type: ignore[misc]
        if len(rows) < _ROWS or not rows[-1][1]:  # later ones are younger
            return
        after = rows[-1][0]


def _delete(connection: Connection, ids: Sequence[int]) -> None:
    gone = [row[0] for row in connection.execute(QUERIES["prune_batches"], (as_json(ids),))]
    connection.execute(QUERIES["prune_callbacks"], (as_json(gone),))

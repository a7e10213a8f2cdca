"""Output of the starts of jobs: recorded in the supervisor's transaction, read by clients."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mpdispatch.model import Attempt, Output, Stream
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.mending import texts
from mpdispatch.store.sql.queries import QUERIES

_STREAMS = frozenset(each.value for each in Stream)


def record(connection: Connection, owner: int, outputs: Sequence[Output]) -> None:
    """Store outputs of this owner's running starts; others are dropped."""
    connection.executemany(
        QUERIES["write_output"],
        [(each.stream, each.written, each.text, each.job_id, owner, each.starts) for each in outputs],
    )


def of_job(connection: Connection, job_id: int) -> list[Output]:
    return [
        Output(job_id=row[0], starts=row[1], stream=Stream(row[2]), text=texts(row[3]), written=row[4])
        for row in connection.execute(QUERIES["outputs_of"], (job_id,))
        if row[2] in _STREAMS  # skip rows with an unknown stream
    ]


def with_outputs(attempts: list[Attempt], outputs: Sequence[Output]) -> list[Attempt]:
    """The attempts, each with its output."""
    if not outputs:
        return attempts
    texts = {(output.starts, output.stream): output.text for output in outputs}
    return [
        msgspec.structs.replace(
            each,
            stdout=texts.get((each.starts, Stream.STDOUT)),
            stderr=texts.get((each.starts, Stream.STDERR)),
            log=texts.get((each.starts, Stream.LOG)),
        )
        for each in attempts
    ]

"""What a backend does in its own way within a commit, as it decides how many jobs a second there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mpdispatch.clock import Instant
from mpdispatch.model import Transition
from mpdispatch.store.sql.candidates import OpenDue, Row
from mpdispatch.store.sql.connection import Connection

Record = Callable[[Connection, int, Sequence[Transition]], None]
"""Writes all of these outcomes of an owner, or raises SomeRejectedError with the transaction half written."""
Take = Callable[[Connection, int, list[Row], Instant], list[Row]]
"""Gives these due rows to an owner, and returns those that it has got: another one may hold a row."""


class Ways(NamedTuple):
    """Of one backend."""

    record: Record
    open_due: OpenDue
    take: Take

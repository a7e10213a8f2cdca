"""The part of a commit that decides how many jobs a second a store does: each backend has functions of its own for it."""

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


class HotPath(NamedTuple):
    """The functions of one backend: they record outcomes, read the due rows in order, and give rows to an owner."""

    record: Record
    open_due: OpenDue
    take: Take

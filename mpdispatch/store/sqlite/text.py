"""Reads text that is not UTF-8, which sqlite3 refuses. Effects: temporarily sets the connection's text_factory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mpdispatch import sqlite3
from mpdispatch.store.sqlite.mending import lenient


def is_bad_text(error: BaseException) -> bool:
    """Whether the cause of the error is text that is not UTF-8."""
    return isinstance(error, sqlite3.ERRORS) and str(error).startswith("Could not decode to UTF-8")


@contextmanager
def lenient_text(connection: sqlite3.Connection) -> Iterator[None]:
    """Within the block, such text is read as bytes."""
    before, connection.text_factory = connection.text_factory, lenient
    try:
        yield
    finally:
        connection.text_factory = before

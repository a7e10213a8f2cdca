"""Reads text that is not UTF-8, which sqlite3 refuses. Effects: temporarily sets the connection's text_factory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.mending import lenient


@contextmanager
def lenient_text(connection: Connection) -> Iterator[None]:
    """Within the block, such text is read as bytes."""
    before, connection.text_factory = connection.text_factory, lenient
    try:
        yield
    finally:
        connection.text_factory = before

"""The SQLite store's statements, read once."""

from __future__ import annotations

from pathlib import Path

from mpdispatch.store.sql import Queries

__all__ = ["QUERIES"]

QUERIES = Queries(Path(__file__).with_name("queries.sql"))

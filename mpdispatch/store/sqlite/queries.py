"""The SQLite store's statements, read once."""

from __future__ import annotations

from pathlib import Path

from mpdispatch.store.sql import Queries
from mpdispatch.store.sqlite.columns import LISTS

_HERE = Path(__file__).parent
QUERIES = Queries(_HERE / "queries.sql", _HERE / "supervisor_store.sql", lists=LISTS)

"""The SQLite store's statements, read once."""

from __future__ import annotations

from pathlib import Path

from mpdispatch import sqlite3
from mpdispatch.store.sql import Queries
from mpdispatch.store.sqlite.columns import LISTS

_HERE = Path(__file__).parent
QUERIES = Queries(_HERE / "queries.sql", _HERE / "supervisor_store.sql", lists=LISTS)
SCHEMA = _HERE / "schema.sql"


def statements(file: Path) -> list[str]:
    """The statements of a schema file, one by one (executescript would commit)."""
    found, current = list[str](), ""
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("--"):
            current += line + "\n"
        if sqlite3.module.complete_statement(current):
            if current.strip():
                found.append(current.strip())
            current = ""
    return found

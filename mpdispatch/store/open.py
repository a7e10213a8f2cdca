"""From a location, as users write it, to a store."""

from __future__ import annotations

import os
from typing import cast
from urllib.parse import parse_qsl, unquote, urlsplit

from mpdispatch.errors import UsageError
from mpdispatch.store.sqlite import SQLiteStore
from mpdispatch.store.sqlite.opening import Durability

__all__ = ["open_store"]

_NOT_YET = {
    "postgresql": "PostgreSQL",
    "postgres": "PostgreSQL",
    "redis": "Redis",
    "rediss": "Redis",
    "valkey": "Redis",
}


def open_store(location: str | os.PathLike[str]) -> SQLiteStore:
    """The store at `location`: a path, `:memory:`, or `sqlite:///relative.db`, `sqlite:////absolute.db`.

    A URL may end in `?durability=process` and `shared=1`. Does no I/O.

    Raises:
        UsageError: the location is of a kind this version has no store for, or malformed.
    """
    if not isinstance(location, (str, os.PathLike)):
        raise UsageError(f"location: must be a path or URL such as 'jobs.db', not {location!r}")
    text = os.fspath(location)
    scheme, colon, _ = text.partition("://")
    if not colon:
        return SQLiteStore(text)
    # postgresql+psycopg://…, as SQLAlchemy writes it
    scheme = scheme.lower().partition("+")[0]
    if scheme in _NOT_YET:
        raise UsageError(
            f"this version of mpdispatch has no {_NOT_YET[scheme]} store; use a path or sqlite:///…"
        )
    if scheme != "sqlite":
        raise UsageError(f"{scheme}:// names no store; use a path, :memory: or sqlite:///path")
    return _open_sqlite(text)


def _open_sqlite(url: str) -> SQLiteStore:
    parts = urlsplit(url)
    if parts.netloc or parts.fragment:
        raise UsageError(f"{url}: write sqlite:///relative.db or sqlite:////absolute.db")
    path = unquote(parts.path.removeprefix("/")) or ":memory:"
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    durability = options.pop("durability", None)
    shared = options.pop("shared", "0").lower()
    if options:
        raise UsageError(f"{url}: unknown option {min(options)!r}; there are durability and shared")
    if shared not in ("0", "1", "false", "true"):
        raise UsageError(f"{url}: shared must be 0 or 1, not {shared!r}")
    return SQLiteStore(path, durability=cast("Durability | None", durability), shared=shared in ("1", "true"))

"""Opens the store at a location as users write it."""

from __future__ import annotations

import os

from mpdispatch.errors import UsageError
from mpdispatch.store.contract import Store
from mpdispatch.store.sqlite import SQLiteStore
from mpdispatch.store.sqlite.options import FileOptions
from mpdispatch.store.thirdparty import third_party_store

NOT_YET = {
    "postgresql": "PostgreSQL",
    "postgres": "PostgreSQL",
    "redis": "Redis",
    "rediss": "Redis",
    "valkey": "Redis",
    "valkeys": "Redis",
}
"""URL schemes of stores planned for later versions, with the product's name."""


def refuse_for_now(kind: str) -> UsageError:
    """The error for a kind of store that this version does not have yet."""
    return UsageError(f"this version of mpdispatch has no {kind} store; use a path or sqlite:///…")


def open_store(location: str | os.PathLike[str]) -> Store:
    """The store at `location`: a path, `:memory:`, or `sqlite:///relative.db`, `sqlite:////absolute.db`.

    A URL may end in `?durability=process`, `shared=1` and such, see `SQLiteStore`. Does no I/O.

    Raises:
        UsageError: the location is of a kind this version has no store for, or malformed.
    """
    if not isinstance(location, (str, os.PathLike)):
        raise UsageError(f"location: must be a path or URL such as 'jobs.db', not {repr(location)[:60]}")
    text = os.fspath(location)
    scheme, colon, _ = text.partition("://")
    if not colon:
        return SQLiteStore(text)
    # postgresql+psycopg://…, as SQLAlchemy writes it
    scheme = scheme.lower().partition("+")[0]
    if scheme in NOT_YET:
        raise refuse_for_now(NOT_YET[scheme])
    if scheme == "sqlite":
        path, options = FileOptions.read(text)
        return SQLiteStore.with_options(path, options)
    if (store := third_party_store([scheme], text)) is not None:
        return store
    raise UsageError(f"{scheme}:// names no store; use a path, :memory: or sqlite:///path")

"""Opens the store at a location as users write it."""

from __future__ import annotations

import os

from mpdispatch.errors import UsageError
from mpdispatch.store.contract import Store
from mpdispatch.store.servers import SCHEMES, open_server, scheme_of
from mpdispatch.store.sqlite import SQLiteStore
from mpdispatch.store.sqlite.options import FileOptions
from mpdispatch.store.thirdparty import third_party_store


def open_store(location: str | os.PathLike[str]) -> Store:
    """The store at `location`: a path, `:memory:`, or a URL.

    `sqlite:///relative.db`, `sqlite:////absolute.db`: may end in `?durability=process`, `shared=1` and such, see
    `SQLiteStore`. `postgresql://user@host/database`, `redis://host:port/0`, `redis+unix:///path/of/socket`: see
    `PostgresStore` and `RedisStore` for their options. Does no I/O.

    Raises:
        UsageError: there is no store for such a location, it is malformed, or the server's driver is not installed.
    """
    if not isinstance(location, (str, os.PathLike)):
        raise UsageError(f"location: must be a path or URL such as 'jobs.db', not {repr(location)[:60]}")
    text = os.fspath(location)
    scheme = scheme_of(text)
    if not scheme and "://" not in text:
        return SQLiteStore(text)
    if scheme in SCHEMES:
        return open_server(SCHEMES[scheme], text)
    if scheme == "sqlite":
        path, options = FileOptions.read(text)
        return SQLiteStore.with_options(path, options)
    if (store := third_party_store([scheme], text)) is not None:
        return store
    raise UsageError(
        f"{scheme}:// names no store; use a path, :memory:, sqlite:///path, postgresql://… or redis://…"
    )

"""Recognises resources of the application by the names of their types, and makes stores of them. Imports no driver.

The names in an object's MRO are enough to recognise it. So no package has to be imported that the app does not use.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl, unquote

from mpdispatch import sqlite3
from mpdispatch.errors import UsageError
from mpdispatch.store import SQLiteStore, open_store
from mpdispatch.store.callers import names_of
from mpdispatch.store.contract import Store
from mpdispatch.store.servers import POSTGRES, REDIS, SCHEMES, Product, scheme_of, store_of
from mpdispatch.store.sqlite import main_file_of
from mpdispatch.store.sqlite.options import FileOptions
from mpdispatch.store.thirdparty import third_party_store

_POSTGRES = frozenset({"psycopg", "psycopg_pool", "psycopg2", "asyncpg"})
_REDIS = frozenset({"redis", "valkey"})
_DATABASES = {"sqlalchemy.Engine", "sqlalchemy.AsyncEngine", "sqlite_utils.Database"} | {
    f"{copy}.Connection" for copy in sqlite3.COPIES
}


class Kind(StrEnum):
    """The kinds of resource that the two grove settings name."""

    DATABASE = "database"
    KV = "kv"


@dataclass(frozen=True, slots=True)
class Detected:
    """A recognised resource, and how it is opened."""

    kind: Kind | None
    """None: it is a store, or a third party's, and serves as either kind."""
    what: str
    """The resource for people: `SQLAlchemy engine (sqlite)`."""
    open: Callable[[FileOptions], Store]
    """Makes its store. Files are opened with these options, but by the resource's own copy of SQLite.

    Raises UsageError if there is no store for it, or if it is in no file.
    """


def kind_of_type(kind: type) -> Kind | None:
    """The kind of resource of objects of this type, as far as the type shows; None: they are none."""
    names = names_of(kind)
    roots = {name.partition(".")[0] for name in names}
    is_store = callable(getattr(kind, "supervisor_store", None))
    if is_store or names & _DATABASES or roots & _POSTGRES:
        return Kind.DATABASE
    return Kind.KV if roots & _REDIS else None


def detect(thing: Any) -> Detected | None:
    """The resource that this object is; None: it can hold no jobs."""
    if callable(getattr(thing, "supervisor_store", None)) and not isinstance(thing, type):
        return Detected(None, type(thing).__name__, lambda _: thing)
    if isinstance(thing, str | os.PathLike):
        return _location(os.fspath(thing))
    names = names_of(type(thing))
    roots = {name.partition(".")[0] for name in names}
    if "sqlalchemy.Engine" in names:
        return _sqlalchemy(thing)
    if "sqlalchemy.AsyncEngine" in names:
        return _sqlalchemy(thing.sync_engine)
    if "sqlite_utils.Database" in names:
        return Detected(Kind.DATABASE, "sqlite-utils database", lambda o: _of_connection(thing.conn, o))
    if sqlite3.copy_of(thing) is not None:
        return Detected(Kind.DATABASE, "SQLite connection", lambda o: _of_connection(thing, o))
    if roots & _POSTGRES:
        return Detected(Kind.DATABASE, f"PostgreSQL {type(thing).__name__}", _on_server(POSTGRES, thing))
    if roots & _REDIS:
        return Detected(Kind.KV, f"Redis {type(thing).__name__}", _on_server(REDIS, thing))
    store = third_party_store(sorted(roots - {"builtins"}), thing)
    return None if store is None else Detected(None, type(thing).__qualname__, lambda _: store)


# ---------------------------------------------------------------- the kinds


def _on_server(product: Product, thing: Any) -> Callable[[FileOptions], Store]:
    return lambda _: store_of(product, thing)


def _location(text: str) -> Detected:
    scheme = scheme_of(text) if "://" in text else "sqlite"
    kind = Kind.KV if SCHEMES.get(scheme) is REDIS else Kind.DATABASE

    def opened(options: FileOptions) -> Store:
        # The options in a DSN count. Unless it says otherwise, the file is the application's own database.
        if scheme != "sqlite":
            return open_store(text)
        if "://" not in text:
            return SQLiteStore.with_options(text, options)
        path, chosen = FileOptions.read(text, defaults=options)
        return SQLiteStore.with_options(path, chosen)

    # Without the text, which may hold a password.
    return Detected(kind, f"{scheme} DSN", opened)


def _sqlalchemy(engine: Any) -> Detected:
    dialect = str(engine.dialect.name)
    what = f"SQLAlchemy engine ({dialect})"
    if dialect == "sqlite":
        return Detected(Kind.DATABASE, what, lambda options: _of_sqlalchemy(engine, options))
    if SCHEMES.get(dialect) is POSTGRES:
        return Detected(Kind.DATABASE, what, _on_server(POSTGRES, engine))

    def opened(_: FileOptions) -> Store:
        store = third_party_store([dialect], engine)
        if store is None:
            raise UsageError(f"there is no store for {dialect}; use SQLite, PostgreSQL or a path")
        return store

    return Detected(Kind.DATABASE, what, opened)


def _of_sqlalchemy(engine: Any, options: FileOptions) -> Store:
    driver = engine.dialect.dbapi
    # An async driver is a wrapper of SQLAlchemy's, which holds the real module.
    module = getattr(driver, "sqlite", None) or driver
    copy = str(getattr(module, "__name__", "")).partition(".")[0]
    if copy not in sqlite3.COPIES:
        there = ", ".join(sqlite3.COPIES)
        raise UsageError(
            f"its driver {getattr(module, '__name__', module)!r} brings a copy of SQLite mpdispatch cannot use"
            f" (those are {there}), and two copies on one file in one process corrupt it"
        )
    return _in_file(_file_of_url(engine.url), options, copy)


def _file_of_url(url: Any) -> str:
    """The path in SQLAlchemy's URL; `""` for a database in memory."""
    name = str(url.database or "")
    if not name.startswith("file:"):
        return "" if name == ":memory:" else name
    path, _, query = name.removeprefix("file:").partition("?")
    options = {**dict(parse_qsl(query)), **dict(url.query)}
    in_memory = options.get("mode") == "memory" or path in ("", ":memory:")
    return "" if in_memory else unquote(path.removeprefix("//"))


def _of_connection(connection: Any, options: FileOptions) -> Store:
    copy = sqlite3.copy_of(connection)
    if copy is None:
        raise UsageError(
            f"its connection is a {type(connection).__qualname__}, of no SQLite mpdispatch can use"
        )
    return _in_file(main_file_of(connection), options, copy)


def _in_file(path: str, options: FileOptions, copy: str) -> Store:
    if not path:
        raise UsageError("is in memory, where only its own connections see it; jobs need a file")
    return SQLiteStore.with_options(
        path,
        FileOptions(durability=options.durability, shared=True, switch_to_wal=options.switch_to_wal, copy=copy),
    )

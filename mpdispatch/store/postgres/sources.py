"""Where an application's own resource keeps its data, and how it makes connections. Does no I/O.

Our connections are our own: they have deadlines, and autocommit. A pool or an engine says where to, and makes new ones
as it makes its own (with its arguments, its events); none is borrowed from it.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from mpdispatch.errors import UsageError
from mpdispatch.store.callers import names_of
from mpdispatch.store.postgres.options import Place, ServerOptions
from mpdispatch.store.postgres.wire import Connect, Raw

_NOT_LIBPQS = frozenset({"autocommit", "context", "cursor_factory", "prepare_threshold", "row_factory"})
"""Arguments of `psycopg.connect` that are about the connection object."""


def place_and_way(thing: Any, options: ServerOptions) -> tuple[Place, Connect | None]:
    """The place that this resource is in, and how it makes a connection; None: by the place's URL.

    `thing`: a URL, libpq's `key=value` text, a pool or connection of psycopg, an engine of SQLAlchemy.

    Raises UsageError: it says neither.
    """
    if isinstance(thing, str):
        if "://" in thing or "=" not in thing:
            return Place.read(thing, defaults=options), None
        return Place.of_parameters(_parameters(thing), options), None
    names = names_of(type(thing))
    if "sqlalchemy.AsyncEngine" in names:
        return Place.of_parameters(_of_url(thing.url), options), None
    if "sqlalchemy.Engine" in names:
        way = _detached(thing) if getattr(thing, "driver", "") == "psycopg" else None
        return Place.of_parameters(_of_url(thing.url), options), way
    if any(name.startswith("psycopg_pool.") for name in names):
        return _of_pool(thing, options)
    if "psycopg.BaseConnection" in names:
        return Place.of_parameters(_with_password(thing.info.dsn, thing), options), None
    if names & {"psycopg2.connection"}:
        return Place.of_parameters(_with_password(thing.dsn, thing), options), None
    kind = type(thing)
    raise UsageError(
        f"a {kind.__module__}.{kind.__qualname__} does not say where it connects to; give its URL"
        " (postgresql://…), a pool or connection of psycopg, or an engine of SQLAlchemy"
    )


def _parameters(text: str, **more: Any) -> dict[str, Any]:
    try:
        return dict(conninfo_to_dict(text, **more))
    except psycopg.Error:
        # Not `from error`: its text may repeat a password.
        raise UsageError("the connection's parameters are none that PostgreSQL's library knows") from None


def _with_password(text: str, connection: Any) -> dict[str, Any]:
    found = _parameters(text)
    password = getattr(connection.info, "password", None)
    return {**found, "password": password} if password else found


def _of_url(url: Any) -> dict[str, Any]:
    """libpq's parameters of SQLAlchemy's URL."""
    more = {name: ",".join(value) if isinstance(value, tuple) else value for name, value in url.query.items()}
    named = {
        "host": url.host,
        "port": url.port,
        "user": url.username,
        "password": url.password,
        "dbname": url.database,
    }
    return {**{name: value for name, value in named.items() if value is not None}, **more}


def _detached(engine: Any) -> Connect:
    def connect() -> Raw:
        theirs = engine.raw_connection()
        raw: Raw = theirs.driver_connection
        theirs.detach()  # not the pool's any more, which may make another
        return raw

    return connect


def _of_pool(pool: Any, options: ServerOptions) -> tuple[Place, Connect]:
    def given() -> tuple[str, dict[str, Any]]:
        # Both may be functions, for passwords that expire.
        text = pool.conninfo() if callable(pool.conninfo) else pool.conninfo
        kwargs = pool.kwargs() if callable(pool.kwargs) else pool.kwargs
        return text, {name: value for name, value in (kwargs or {}).items() if name not in _NOT_LIBPQS}

    def connect() -> Raw:
        text, kwargs = given()
        return psycopg.connect(text, autocommit=True, **kwargs)

    text, kwargs = given()
    return Place.of_parameters(_parameters(text, **kwargs), options), connect

"""Where the connections of an application lead, so that a store can make its own to the same place.

A store waits with deadlines and keeps its connections for long, so it borrows none from the application's pool: it makes
its own, with the parameters that the resource has at that moment (a password may be a token that changes).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from mpdispatch.errors import UsageError
from mpdispatch.store.callers import names_of
from mpdispatch.store.postgres.options import Place
from mpdispatch.store.postgres.wire import DEFAULTS, Connect, Raw

CONNECT_S = 10
_NAMES = {"database": "dbname"}
"""What other drivers call libpq's parameters."""


def source_of(resource: Any) -> tuple[Place, Connect]:
    """The place that an app's connection, pool or engine leads to, and how to connect to it. Does no I/O.

    Raises UsageError: its parameters cannot be known, or mean nothing to psycopg.
    """
    names = names_of(type(resource))
    if "sqlalchemy.Engine" in names:
        return _of_engine(resource)
    if "psycopg.BaseConnection" in names:
        # Known only as long as it is open.
        parameters = {**resource.info.get_parameters(), "password": resource.info.password or None}
        return _steady(lambda: parameters)
    if "psycopg_pool.BasePool" in names:
        return _steady(lambda: _of_pool(resource))
    if "psycopg2.connection" in names:
        parameters = {**resource.info.dsn_parameters, "password": resource.info.password or None}
        return _steady(lambda: parameters)
    raise UsageError(
        f"the parameters of a {type(resource).__module__}.{type(resource).__qualname__} cannot be known; give its DSN"
    )


def _steady(parameters: Callable[[], Mapping[str, Any]]) -> tuple[Place, Connect]:
    def connect() -> Raw:
        return _connect(parameters())

    return Place.of_parameters(_libpq(parameters())), connect


def _connect(parameters: Mapping[str, Any]) -> Raw:
    chosen = {"connect_timeout": CONNECT_S, **DEFAULTS, **_libpq(parameters)}
    return psycopg.connect(**chosen, autocommit=True)


def _libpq(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a driver's parameters that libpq has; the others are about how rows look.

    Raises UsageError: one is about encryption, which must not be dropped.
    """
    known = {each.keyword.decode() for each in pq.Conninfo.get_defaults()}
    found = dict[str, Any]()
    for name, value in given.items():
        name = _NAMES.get(name, name)
        if name in known:
            found[name] = value
        elif "ssl" in name and value:
            raise UsageError(f"its parameter {name}= is not one of psycopg's; give a DSN with sslmode=…")
    return found


def _of_pool(pool: Any) -> dict[str, Any]:
    """The parameters of a pool of psycopg's, of which both parts may be made anew for each connection."""
    conninfo, more = pool.conninfo, pool.kwargs
    found = (conninfo() if callable(conninfo) else conninfo), (more() if callable(more) else more)
    for each in found:
        if hasattr(each, "__await__"):
            each.close()
            raise UsageError(
                "its parameters are made by a coroutine; give a DSN, or functions that are not async"
            )
    return {**conninfo_to_dict(found[0] or ""), **(found[1] or {})}


# ---------------------------------------------------------------- SQLAlchemy


class _Asked(Exception):
    """Ends an attempt to connect once its parameters are known."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self.parameters = dict(parameters)


_asking = threading.local()


def _tell(dialect: Any, record: Any, arguments: Any, parameters: Mapping[str, Any]) -> None:
    """Listens to `do_connect`. It is asked last, so others have had their say about the parameters."""
    if getattr(_asking, "is_on", False):
        raise _Asked(parameters)


def _of_engine(engine: Any) -> tuple[Place, Connect]:
    from sqlalchemy import event

    _, parameters = engine.dialect.create_connect_args(engine.url)
    place = Place.of_parameters(_libpq(parameters))
    if not event.contains(engine, "do_connect", _tell):
        event.listen(engine, "do_connect", _tell)
    return place, lambda: _connect_as(engine)


def _connect_as(engine: Any) -> Raw:
    """A connection as this engine makes them: with its `connect_args` and what listeners add, or by its `creator`."""
    pool = engine.pool.recreate()  # the same way to connect, and nobody else's connections
    _asking.is_on = True
    try:
        lent = pool.connect()
    except _Asked as asked:
        return _connect(asked.parameters)
    finally:
        _asking.is_on = False
    raw = lent.driver_connection
    lent.detach()
    if not isinstance(raw, psycopg.Connection):
        raise UsageError(
            f"its creator gives a {type(raw).__module__}.{type(raw).__qualname__}; give the store a DSN"
        )
    return raw

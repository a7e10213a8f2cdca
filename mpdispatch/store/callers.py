"""Finds the driver's connection in whatever a caller works with: SQLAlchemy's, Django's, or the driver's own.

Types are recognised by their names, so nothing is imported that the caller does not use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpdispatch.errors import UsageError

_TAKEN = "a connection of the driver, a Connection or Session of SQLAlchemy, or a connection of Django"


def names_of(kind: type) -> frozenset[str]:
    """`package.Class` of a type and of all its bases.

    >>> sorted(names_of(bool))
    ['builtins.bool', 'builtins.int', 'builtins.object']
    """
    return frozenset(f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in kind.__mro__)


def driver_connection(given: Any) -> Any:
    """The connection of the database's own driver whose transaction is that of `given`.

    What is not known here is returned as it is: the store says whether it is a connection of its database. A transaction
    of SQLAlchemy's begins, as it does with any statement, so that it is there to be committed.

    Raises:
        UsageError: `given` has no transaction, or only one that is awaited.
    """
    kind = type(given)
    way = _known.get(kind)
    if way is None:
        way = _known[kind] = _way_from(kind)
    return way(given)


_known: dict[type, Callable[[Any], Any]] = {}
"""Each type is looked at once: an enqueue is quick."""


def _way_from(kind: type) -> Callable[[Any], Any]:
    """How connections of this type lead to the driver's."""
    names = names_of(kind)
    for name, way in _WAYS.items():
        if name in names:
            return way
    return _itself


def _itself(connection: Any) -> Any:
    return connection


def _of_session(session: Any) -> Any:
    from sqlalchemy.exc import UnboundExecutionError

    try:
        connection = session.connection()
    except UnboundExecutionError as error:
        raise UsageError(
            "connection= is a Session that has no database of its own; give the one that the job is to be kept in:"
            " session.connection(bind_arguments={...})"
        ) from error
    return _of_connection(connection)


def _of_connection(connection: Any) -> Any:
    """Of SQLAlchemy's Connection."""
    if not hasattr(connection, "commit"):  # of version 1.4: nobody would commit what begins here
        raise UsageError("connection= is of SQLAlchemy 1; jobs take part in the transactions of SQLAlchemy 2")
    if connection.dialect.is_async:
        raise _awaited(f"on {connection.dialect.name}+{connection.dialect.driver}")
    if not connection.in_transaction():
        connection.begin()
    return connection.connection.driver_connection


def _of_pool(proxied: Any) -> Any:
    """Of a connection that SQLAlchemy's pool has lent."""
    return proxied.driver_connection


def _of_django(wrapper: Any) -> Any:
    wrapper.validate_thread_sharing()
    # As with any statement: in a block that is to be rolled back, Django refuses.
    wrapper.validate_no_broken_transaction()
    wrapper.ensure_connection()
    return wrapper.connection


def _of_sqlite_utils(database: Any) -> Any:
    return database.conn


def _refused_as_async(given: Any) -> Any:
    raise _awaited(f"the {type(given).__name__}")


def _awaited(what: str) -> UsageError:
    return UsageError(
        f"connection= is {what}, where statements are awaited, and an enqueue is no statement of that kind; give"
        f" {_TAKEN}, none of them asynchronous, or enqueue the job when the transaction has been committed"
    )


def _refused_as_source(given: Any) -> Any:
    raise UsageError(
        f"connection= is the {type(given).__name__}, which makes connections; give {_TAKEN}: the job is stored in its"
        " transaction"
    )


_WAYS: dict[str, Callable[[Any], Any]] = {
    "sqlalchemy.Connection": _of_connection,
    "sqlalchemy.Session": _of_session,
    "sqlalchemy.scoped_session": _of_session,
    "sqlalchemy.PoolProxiedConnection": _of_pool,
    "django.BaseDatabaseWrapper": _of_django,
    "django.ConnectionProxy": _of_django,
    "sqlite_utils.Database": _of_sqlite_utils,
    **dict.fromkeys(
        (
            "sqlalchemy.AsyncConnection",
            "sqlalchemy.AsyncSession",
            "sqlalchemy.async_scoped_session",
            "psycopg.AsyncConnection",
            "aiosqlite.Connection",
        ),
        _refused_as_async,
    ),
    **dict.fromkeys(
        (
            "sqlalchemy.Engine",
            "sqlalchemy.AsyncEngine",
            "sqlalchemy.Pool",
            "sqlalchemy.sessionmaker",
            "psycopg_pool.ConnectionPool",
            "psycopg_pool.AsyncConnectionPool",
            "django.ConnectionHandler",
        ),
        _refused_as_source,
    ),
}

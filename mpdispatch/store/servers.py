"""Stores on servers, by name: their modules and drivers are imported only when one is opened."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple, cast

from mpdispatch.errors import UsageError
from mpdispatch.store.contract import Store


class Product(NamedTuple):
    """A kind of server that holds jobs."""

    name: str
    """For people: `PostgreSQL`."""
    extra: str
    """What `pip install mpdispatch[…]` brings its driver."""
    drivers: tuple[str, ...]
    """Packages of which one is needed, the usual one first."""
    module: str
    store: str
    """The name of the class in `module`. It is called with a URL, and its method `of` with an app's resource."""


POSTGRES = Product("PostgreSQL", "postgres", ("psycopg",), "mpdispatch.store.postgres", "PostgresStore")
REDIS = Product("Redis", "redis", ("redis", "valkey"), "mpdispatch.store.redis", "RedisStore")

SCHEMES = {
    **dict.fromkeys(("postgresql", "postgres"), POSTGRES),
    **dict.fromkeys(("redis", "rediss", "valkey", "valkeys", "unix"), REDIS),
}
"""Schemes of URLs, as they stand before any `+`: `postgresql+psycopg`, `redis+unix`."""


def scheme_of(location: str) -> str:
    """The scheme of a URL in lower case, without a driver or transport; empty: it is no URL.

    >>> scheme_of("postgresql+psycopg://ann@db/jobs"), scheme_of("REDIS://cache/0"), scheme_of("jobs.db")
    ('postgresql', 'redis', '')
    """
    scheme, colon, _ = location.partition("://")
    return scheme.lower().partition("+")[0] if colon else ""


def open_server(product: Product, location: str) -> Store:
    """The store at this URL. Does no I/O. Raises UsageError: the URL is malformed, or the driver is missing."""
    return cast(Store, _store_class(product)(location))


def store_of(product: Product, resource: Any) -> Store:
    """The store on the server of an app's pool, engine, connection or client. Does no I/O. Raises UsageError."""
    return cast(Store, _store_class(product).of(resource))


def _store_class(product: Product) -> Any:
    problem = _problem_of(product.drivers)
    if problem:
        raise UsageError(f"a {product.name} store {problem}: pip install 'mpdispatch[{product.extra}]'")
    return getattr(import_module(product.module), product.store)


def _problem_of(drivers: Sequence[str]) -> str:
    """Why none of these packages can be used; empty: one can."""
    problem = f"needs the package {drivers[0]}, which is not installed"
    for driver in drivers:
        try:
            import_module(driver)
        except ModuleNotFoundError as error:
            if error.name != driver:
                problem = f"cannot use the package {driver} ({error})"
        except ImportError as error:  # psycopg without libpq
            problem = f"cannot use the package {driver} ({str(error).partition(chr(10))[0].rstrip('.')})"
        else:
            return ""
    return problem

"""Types that look, by name, like those of packages that need not be installed for the tests."""

from __future__ import annotations

from typing import Any


def stand_in(package: str, name: str, base: type = object, **attributes: Any) -> Any:
    """An object whose type calls itself `package.name`."""
    return type(name, (base,), {"__module__": package, **attributes})()


class Dialect:
    def __init__(self, name: str) -> None:
        self.name = name


def postgres_engine() -> Any:
    return stand_in("sqlalchemy.engine.base", "Engine", dialect=Dialect("postgresql"))


def postgres_pool() -> Any:
    return stand_in("psycopg_pool.pool", "ConnectionPool")


def redis_client() -> Any:
    return stand_in("redis.client", "Redis")


def valkey_client() -> Any:
    return stand_in("valkey.client", "Valkey")

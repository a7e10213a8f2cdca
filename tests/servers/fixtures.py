"""Fixtures: a server of each kind for a pytest worker, servers of a test's own, and an empty place on a server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import psycopg
import pytest
import redis

from .binaries import Absent, redis_binary, valkey_binary
from .keyvalue import KeyValueServer
from .postgres import PostgresServer
from .process import DISK, ForeignServer, Server, quick_root

AnyServer = Server | ForeignServer
NewServer = Callable[..., Server]

ENVIRONMENT = dict(os.environ)
"""As it was when the tests were begun: some of them clear it of our variables."""
_numbers = count(1)


class Place(NamedTuple):
    """Where on a server nobody has kept anything yet."""

    kind: str
    """`postgres`, `valkey` or `redis`."""
    dsn: str
    """The server's, without what follows."""
    name: str
    """A schema of PostgreSQL's, or the prefix of keys."""

    @property
    def location(self) -> str:
        """What `open_store` takes."""
        mark = "&" if "?" in self.dsn else "?"
        return f"{self.dsn}{mark}{'schema' if self.kind == 'postgres' else 'prefix'}={self.name}"


def absent(reason: str) -> NoReturn:
    """Skip the test; with MPDISPATCH_REQUIRE_SERVERS, fail it."""
    if ENVIRONMENT.get("MPDISPATCH_REQUIRE_SERVERS", "") not in ("", "0"):
        pytest.fail(f"MPDISPATCH_REQUIRE_SERVERS is set, and {reason}")
    pytest.skip(reason)


def start_server(kind: str, address: str = "", *, root: Path = DISK, **settings: str) -> Server:
    """A new server of this kind, with its data within `root`. Skips where there is none, as `absent` says."""
    given = ENVIRONMENT.get(f"MPDISPATCH_TEST_{kind.upper()}", "")
    binary = Path(given) if given.startswith("/") else None
    try:
        if kind == "postgres":
            return PostgresServer(binary, address, root=root, **settings)
        found = binary or (valkey_binary() if kind == "valkey" else redis_binary())
        return KeyValueServer(found, address, root=root, **settings)
    except Absent as error:
        absent(str(error))


def _shared(kind: str) -> Iterator[AnyServer]:
    variable = f"MPDISPATCH_TEST_{kind.upper()}"
    given = ENVIRONMENT.get(variable, "")
    server: AnyServer
    server = ForeignServer(given, variable) if "://" in given else start_server(kind, root=quick_root())
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[AnyServer]:
    """PostgreSQL for all tests of this worker; `MPDISPATCH_TEST_POSTGRES` is a DSN, or the folder of its programs."""
    yield from _shared("postgres")


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[AnyServer]:
    """Valkey for all tests of this worker; `MPDISPATCH_TEST_VALKEY` is a DSN, or the path of its program."""
    yield from _shared("valkey")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[AnyServer]:
    """Redis for all tests of this worker; `MPDISPATCH_TEST_REDIS` is a DSN, or the path of its program."""
    yield from _shared("redis")


@pytest.fixture
def new_server() -> Iterator[NewServer]:
    """`new_server("postgres")` starts a server that only this test has: to be killed, or with settings of its own."""
    servers: list[Server] = []

    def start(kind: str, address: str = "", **settings: str) -> Server:
        servers.append(start_server(kind, address, root=DISK, **settings))
        return servers[-1]

    yield start
    for each in servers:
        each.close()


@pytest.fixture
def new_place(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Place]]:
    """`new_place("valkey")` gives an empty place on this worker's server; it is emptied after the test."""
    places: list[Place] = []

    def make(kind: str, *, is_quick: bool = True) -> Place:
        """`is_quick`: commits of PostgreSQL do not wait for the disk."""
        server: AnyServer = request.getfixturevalue(f"{kind}_server")
        dsn = server.quick_dsn if is_quick and isinstance(server, PostgresServer) else server.dsn
        places.append(Place(kind, dsn, f"t{os.getpid()}_{next(_numbers)}"))
        return places[-1]

    yield make
    for each in places:
        empty(each)


class Schemas:
    """Schemas of PostgreSQL with our tables, used again by one test after the other: to make them takes long."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._free: list[Place] = []
        self._meta: dict[Place, object] = {}
        """What a schema said about itself when it was made."""

    def take(self) -> Place:
        """One in which there is nothing but our empty tables, or nothing at all."""
        if self._free:
            return self._free.pop()
        return Place("postgres", self._dsn, f"s{os.getpid()}_{next(_numbers)}")

    def note(self, place: Place) -> None:
        """The tables are there, and nobody has used them yet."""
        if place not in self._meta:
            with psycopg.connect(self._dsn) as connection:
                self._meta[place] = self._about(connection, place)

    def give_back(self, place: Place) -> None:
        """Delete all rows; a schema that is not as it was made is dropped."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute("SET lock_timeout = '5s'")
            if place in self._meta and self._about(connection, place) == self._meta[place]:
                tables = (
                    "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename <> 'mpdispatch_meta'"
                )
                names = [name for (name,) in connection.execute(tables, [place.name])]
                connection.execute("".join(f'DELETE FROM "{place.name}"."{name}";' for name in names).encode())
                connection.execute(
                    "SELECT setval(format('%%I.%%I', schemaname, sequencename), start_value, false)"
                    " FROM pg_sequences WHERE schemaname = %s",
                    [place.name],
                )
                self._free.append(place)
            else:
                connection.execute(f'DROP SCHEMA IF EXISTS "{place.name}" CASCADE')

    def close(self) -> None:
        for place in self._free:
            empty(place)

    def _about(self, connection: psycopg.Connection[Any], place: Place) -> object:
        columns = (
            "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = %s"
            " ORDER BY 1, 2"
        )
        meta = f'SELECT * FROM "{place.name}".mpdispatch_meta ORDER BY 1'
        return connection.execute(columns, [place.name]).fetchall(), connection.execute(
            meta.encode()
        ).fetchall()


@pytest.fixture(scope="session")
def postgres_schemas(postgres_server: AnyServer) -> Iterator[Schemas]:
    """Schemas with our tables, for tests that have nothing to do with how these are made."""
    dsn = postgres_server.quick_dsn if isinstance(postgres_server, PostgresServer) else postgres_server.dsn
    schemas = Schemas(dsn)
    yield schemas
    if not postgres_server.is_ours:
        schemas.close()


def empty(place: Place) -> None:
    """Remove all that is kept in a place."""
    if place.kind == "postgres":
        with psycopg.connect(place.dsn, autocommit=True) as connection:
            connection.execute(f'DROP SCHEMA IF EXISTS "{place.name}" CASCADE')
        return
    with redis.Redis.from_url(place.dsn) as client:
        # Where the prefix stands between braces as well: `{prefix}:jobs`.
        for keys in (f"{place.name}:*", f"{{{place.name}}}*"):
            if found := list(client.scan_iter(keys, count=1000)):
                client.unlink(*found)

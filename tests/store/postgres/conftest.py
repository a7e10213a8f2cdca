"""A schema, its sessions, and a proxy before it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mpdispatch.store.postgres.options import Place
from mpdispatch.store.postgres.server import Database
from mpdispatch.store.postgres.sessions import ClientSessions
from tests.store.postgres.proxy import Proxy

NewPlace = Callable[..., object]


@pytest.fixture
def place(new_place: Callable[..., object]) -> Place:
    return Place.read(str(new_place("postgres").location))  # type: ignore[attr-defined]


@pytest.fixture
def database(place: Place) -> Database:
    return Database(place, str)


@pytest.fixture
def sessions(database: Database) -> Iterator[ClientSessions]:
    found = ClientSessions(database, patience_s=10)
    found.create(lambda c: c.execute(f"CREATE TABLE {table_of(database)} (value text)"), "test")
    yield found
    found.close_all()


@pytest.fixture
def proxy(place: Place) -> Iterator[Proxy]:
    # Not in pytest's own folder: the path of a unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="mpd-proxy-", dir="/tmp") as folder:
        found = Proxy(place.dsn, Path(folder))
        yield found
        found.close()


@pytest.fixture
def through_proxy(proxy: Proxy, place: Place, sessions: ClientSessions) -> Iterator[ClientSessions]:
    """Sessions that reach the server by the proxy. `sessions` has made the table."""
    found = ClientSessions(Database(Place(proxy.dsn, place.options), str), patience_s=10)
    yield found
    found.close_all()


def table_of(database: Database) -> str:
    return f"{database.place.options.quoted_schema}.noted"

"""A Redis store on the Valkey of this worker, or on a server of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from mpdispatch.model import NewJob
from mpdispatch.store.redis import RedisStore
from tests.servers.fixtures import Place

NewStore = Callable[..., RedisStore]


@pytest.fixture
def place(new_place: Callable[[str], Place]) -> Place:
    return new_place("valkey")


@pytest.fixture
def store(place: Place) -> Iterator[RedisStore]:
    made = RedisStore(place.location)
    made.migrate()
    yield made
    made.close_all()


@pytest.fixture
def server(place: Place) -> Iterator[Any]:
    """A client of the server, which sees the keys."""
    with redis.Redis.from_url(place.dsn) as client:
        yield client


def keys_of(server: Any, place: Place) -> set[str]:
    """The keys of this place, without its prefix."""
    prefix = f"{{{place.name}}}:"
    return {key.decode().removeprefix(prefix) for key in server.scan_iter(prefix + "*", count=1000)}


def new_job(**changes: Any) -> NewJob:
    return NewJob(**{"name": "render", "payload": b'{"path":"a.pdf"}', **changes})

"""A network, a server on it for all tests of a module, and a yard for each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.hosts.network import Network, why_not
from tests.hosts.yard import Yard
from tests.servers.fixtures import Place, empty, start_server
from tests.servers.process import Server

_numbers = count(1)


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    if reason := why_not():
        pytest.skip(reason)
    made = Network(tmp_path_factory.mktemp("hosts"))
    yield made
    made.close()


@pytest.fixture(scope="session", params=["postgres", "valkey"])
def server(request: pytest.FixtureRequest, network: Network) -> Iterator[tuple[str, Server]]:
    """A server that hosts reach by TCP, and its kind. A test that ends it starts it again."""
    settings = {"protected_mode": "no"} if request.param == "valkey" else {}
    made = start_server(request.param, network.address, **settings)
    yield request.param, made
    made.close()


@pytest.fixture
def yard(tmp_path: Path, network: Network, server: tuple[str, Server]) -> Iterator[Yard]:
    kind, running = server
    name = f"t{os.getpid()}_{next(_numbers)}"
    local = Place(kind, running.dsn, name)
    made = Yard(tmp_path, network, local, local._replace(dsn=running.tcp_dsn))
    made.engine.store.check(create=True)
    try:
        yield made
    finally:
        made.close()
        empty(local)

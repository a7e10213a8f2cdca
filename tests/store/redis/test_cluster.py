"""A store on a cluster: all its keys are on one node, and it finds that node from any other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from mpdispatch.clock import SystemClock
from mpdispatch.model import ClaimRequest, JobState
from mpdispatch.store.redis import RedisStore
from tests.servers.fixtures import NewServer
from tests.servers.process import free_port
from tests.store.conftest import completed, registration

from .conftest import new_job

SLOTS = 16384


@pytest.fixture
def nodes(new_server: NewServer) -> Iterator[list[Any]]:
    """Clients of the two nodes of a cluster, each with half of the slots."""
    clients = []
    for first in (0, SLOTS // 2):
        port = str(free_port("127.0.0.1"))
        server: Any = new_server("valkey", "127.0.0.1", cluster_enabled="yes", cluster_port=port)
        client = redis.Redis.from_url(server.tcp_dsn)
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, first + SLOTS // 2 - 1)
        client.bus_port = port  # type: ignore[attr-defined]
        clients.append(client)
    here = clients[1].connection_pool.connection_kwargs
    clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", here["port"], clients[1].bus_port)
    until_s = time.monotonic() + 30
    while not all(_is_ready(client) for client in clients):
        assert time.monotonic() < until_s, "the nodes make no cluster"
        time.sleep(0.05)
    yield clients
    for client in clients:
        client.close()


def _is_ready(client: Any) -> bool:
    said = client.execute_command("CLUSTER", "INFO").decode()
    return "cluster_state:ok" in said and "cluster_known_nodes:2" in said


@pytest.mark.parametrize("at", [0, 1])
def test_a_store_finds_its_node_from_any_other(nodes: list[Any], at: int) -> None:
    here = nodes[at].connection_pool.connection_kwargs["port"]
    for prefix in ("jobs", "shop", "a", "b", "c"):
        store = RedisStore(f"redis://127.0.0.1:{here}/0?prefix={prefix}")
        job = store.enqueue(new_job())
        supervisor = store.supervisor_store()
        owner = supervisor.register(registration(), 30_000_000)
        claim = ClaimRequest(queues=("default",), slots=5)
        [claimed] = supervisor.commit(owner, [], claim=claim).claimed
        supervisor.commit(owner, [completed(claimed, SystemClock().now())])
        assert store.state_of(job.id) is JobState.COMPLETED
        store.close_all()
    keys = [{key.split(b"}")[0] for key in node.scan_iter("{*")} for node in nodes]
    assert all(keys), "the stores are on both nodes"
    assert not keys[0] & keys[1], "and each on one"

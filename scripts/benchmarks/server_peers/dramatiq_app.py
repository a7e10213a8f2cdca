"""Dramatiq: acknowledged after execution; those of a worker that is gone are put back by the others."""

from __future__ import annotations

import os

import dramatiq
import stamps
from dramatiq.brokers.redis import RedisBroker
from redis import Redis

URL = os.environ["BENCH_SERVER"]
COMMANDS = [["dramatiq", "dramatiq_app", "--processes", "2", "--threads", "8"]]
dramatiq.set_broker(RedisBroker(url=URL))


@dramatiq.actor(actor_name="noop")
def _noop() -> None:
    stamps.noop()


@dramatiq.actor(actor_name="stamp")
def _stamp() -> None:
    stamps.stamp()


def prepare() -> None:
    global client
    client = Redis.from_url(URL)


def fill(count: int) -> None:
    for _ in range(count):
        _noop.send()


def stamp() -> None:
    _stamp.send()


def left() -> int:
    """A message stays here until it is acknowledged."""
    return client.hlen("dramatiq:default.msgs")

"""taskiq: streams, whose messages are claimed anew if nobody acknowledged them; acknowledged after execution."""

from __future__ import annotations

import asyncio
import os

import stamps
from redis import Redis
from taskiq_redis import RedisStreamBroker

URL = os.environ["BENCH_SERVER"]
AT_ONCE = 50
COMMANDS = [["taskiq", "worker", "taskiq_app:broker", "--workers", "2", "--log-level", "ERROR"]]
broker = RedisStreamBroker(URL)


@broker.task("noop")
async def _noop() -> None:
    stamps.noop()


@broker.task("stamp")
async def _stamp() -> None:
    stamps.stamp()


def prepare() -> None:
    global loop, client
    loop, client = asyncio.new_event_loop(), Redis.from_url(URL)
    loop.run_until_complete(broker.startup())


def fill(count: int) -> None:
    async def enqueue() -> None:
        for begin in range(0, count, AT_ONCE):
            await asyncio.gather(*(_noop.kiq() for _ in range(min(AT_ONCE, count - begin))))

    loop.run_until_complete(enqueue())


def stamp() -> None:
    loop.run_until_complete(_stamp.kiq())


def left() -> int:
    """Not yet read, and read but not acknowledged."""
    (group,) = client.xinfo_groups("taskiq")
    return group["lag"] + group["pending"]

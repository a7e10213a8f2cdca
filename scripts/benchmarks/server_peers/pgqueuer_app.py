"""pgqueuer: tables as durable as it installs them, jobs retried when the heartbeat of their worker stops."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import stamps
from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries, run

URL = os.environ["BENCH_SERVER"]
BATCH = 1000
"""At which it drains the quickest; 10 by default."""
COMMANDS = [["python", "-c", "import pgqueuer_app; pgqueuer_app.consume()"]] * 2


@asynccontextmanager
async def consumer() -> AsyncIterator[PgQueuer]:
    made = PgQueuer(AsyncpgDriver(await asyncpg.connect(URL)))

    @made.entrypoint("noop")
    async def noop(_: Job) -> None:
        stamps.noop()

    @made.entrypoint("stamp")
    async def stamp(_: Job) -> None:
        stamps.stamp()

    yield made


def consume() -> None:
    """What `pgq run` does, which fails with newer versions of what it reads its options with."""
    asyncio.run(run(consumer, batch_size=BATCH))


class _Client:
    """Its calls are asynchronous, the bench is not."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection = self._run(asyncpg.connect(URL))
        self._queries = Queries(AsyncpgDriver(self._connection))
        self._run(self._queries.install())

    def _run(self, work):
        return self._loop.run_until_complete(work)

    def enqueue(self, name: str, count: int) -> None:
        self._run(self._queries.enqueue([name] * count, [None] * count, [0] * count))

    def stamp(self) -> None:
        self._run(self._queries.enqueue("stamp", None))

    def left(self) -> int:
        return self._run(self._connection.fetchval("SELECT count(*) FROM pgqueuer"))


def prepare() -> None:
    global client
    client = _Client()


def fill(count: int) -> None:
    client.enqueue("noop", count)


def stamp() -> None:
    client.stamp()


def left() -> int:
    return client.left()

"""Procrastinate: a job is `doing` until its worker says that it is done; a dead worker's can be found."""

from __future__ import annotations

import os

import psycopg
import stamps
from procrastinate import App, PsycopgConnector

URL = os.environ["BENCH_SERVER"]
COMMANDS = [["procrastinate", "--app", "procrastinate_app.app", "worker", "--concurrency", "10"]] * 2
app = App(connector=PsycopgConnector(conninfo=URL))


@app.task(name="noop")
async def _noop() -> None:
    stamps.noop()


@app.task(name="stamp")
async def _stamp() -> None:
    stamps.stamp()


def prepare() -> None:
    global client
    app.open()
    app.schema_manager.apply_schema()
    client = psycopg.connect(URL, autocommit=True)


def fill(count: int) -> None:
    _noop.batch_defer(*[{}] * count)


def stamp() -> None:
    _stamp.defer()


def left() -> int:
    asked = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
    return client.execute(asked).fetchone()[0]

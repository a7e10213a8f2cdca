"""The routes of an app enqueue, and their jobs run inline, whichever thread serves the request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from mpdispatch import current_engine, testing
from mpdispatch.extension import DispatchExtension

ext = DispatchExtension(store="/nonexistent/never-opened/shop.db", supervise=False)
app = FastAPI()
ext.install(app)


@ext.engine.job
def confirm(order: int) -> str:
    remember.options(delay="1d").enqueue(order)
    return f"order {order} is confirmed"


@ext.engine.job
async def remember(order: int) -> int:
    return order


@app.post("/async/{order}")
async def in_the_loop(order: int) -> Any:
    return (await confirm.enqueue_async(order)).result


@app.post("/blocking/{order}")
async def blocking_the_loop(order: int) -> Any:
    return [confirm.enqueue(order).result, remember.enqueue(order).result]


@app.post("/thread/{order}")
def on_a_thread(order: int) -> Any:
    return current_engine().wait(confirm.enqueue(order).id).result


@pytest.fixture
def client() -> Iterator[TestClient]:
    with testing.isolated(ext), testing.inline(ext), TestClient(app) as client:
        yield client


@pytest.mark.parametrize("route", ["async", "thread"])
def test_a_route_gets_the_job_as_it_ended(client: TestClient, route: str) -> None:
    assert client.post(f"/{route}/7").json() == "order 7 is confirmed"
    testing.assert_enqueued(ext, "remember", order=7, delay="1d", state="scheduled")
    assert [job.result for job in testing.drain(ext, advance="1d")] == [7]


def test_a_route_may_block_the_loop(client: TestClient) -> None:
    assert client.post("/blocking/7").json() == ["order 7 is confirmed", 7]


def test_jobs_in_the_database_of_the_app_run_after_its_commit(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "app.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    with testing.isolated(ext, path, shared=True), testing.inline(ext):
        with connection:
            number = connection.execute("INSERT INTO orders DEFAULT VALUES").lastrowid
            job = ext.engine.options(connection=connection).enqueue("confirm", order=number)
            assert job.result is None
        ext.engine.wake()
        assert ext.engine.get_job(job.id).result == "order 1 is confirmed"
    connection.close()

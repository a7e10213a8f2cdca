"""The rows WithGroveDatabase and WithGroveKV on real servers: jobs of a resource are kept where the resource is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import psycopg_pool
import pytest
import redis
import sqlalchemy
import sqlalchemy.ext.asyncio
import valkey

from mpdispatch import ConfigError, open_store
from mpdispatch.extension import DispatchExtension
from mpdispatch.store.contract import Store
from tests.conftest import Cli
from tests.servers.fixtures import AnyServer, Place

NewPlace = Callable[[str], Place]
_numbers = count(1)


@pytest.fixture
def database(postgres_server: AnyServer) -> Iterator[str]:
    """The DSN of a new, empty database."""
    name = f"app{os.getpid()}_{next(_numbers)}"
    with closing(psycopg.connect(postgres_server.dsn, autocommit=True)) as connection:
        before = connection.info.dbname
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres_server.dsn.replace(f"/{before}?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["redis", "valkey"])
def keyspace(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty database of a Redis and a Valkey."""
    server: AnyServer = request.getfixturevalue(f"{request.param}_server")
    dsn = server.dsn.replace("db=0", "db=9")
    with redis.Redis.from_url(dsn) as client:
        client.flushdb()
        yield dsn
        client.flushdb()


def pool(dsn: str) -> Any:
    return psycopg_pool.ConnectionPool(dsn, min_size=1, max_size=3, open=True)


def with_driver(dsn: str) -> str:
    return dsn.replace("postgresql://", "postgresql+psycopg://")


DATABASES: dict[str, Callable[[str], Any]] = {
    "DSN": lambda dsn: dsn,
    "DSN as SQLAlchemy writes it": with_driver,
    "psycopg connection": lambda dsn: psycopg.connect(dsn),
    "psycopg pool": pool,
    "SQLAlchemy engine": lambda dsn: sqlalchemy.create_engine(with_driver(dsn)),
    "async SQLAlchemy engine": lambda dsn: sqlalchemy.ext.asyncio.create_async_engine(with_driver(dsn)),
}
STORES: dict[str, Callable[[str], Any]] = {
    "URL": lambda dsn: dsn,
    "Redis client": redis.Redis.from_url,
    "Valkey client": valkey.Valkey.from_url,
    "Redis pool": redis.ConnectionPool.from_url,
    "asyncio client": redis.asyncio.Redis.from_url,
}


def close(resource: Any) -> None:
    if callable(dispose := getattr(resource, "dispose", None)) and not hasattr(resource, "sync_engine"):
        dispose()
    elif isinstance(resource, psycopg.Connection | psycopg_pool.ConnectionPool | redis.Redis | valkey.Valkey):
        resource.close()


def render(path: str) -> str:
    return path


def keeps_jobs_at(again: Store, **given: Any) -> None:
    """An extension made so keeps a job where the other store finds it."""
    with DispatchExtension(supervise=False, **given) as ext:
        job = ext.engine.register(render).enqueue("a.pdf")
        assert ext.engine.get_job(job.id).name == "render"
    found = again.get(job.id)
    assert (found.name, found.payload) == ("render", {"path": "a.pdf"})
    again.close_all()


@pytest.mark.parametrize("make", DATABASES.values(), ids=DATABASES)
@pytest.mark.parametrize("name", ["", "jobs"])
def test_with_grove_database_on_postgresql(database: str, make: Callable[[str], Any], name: str) -> None:
    resource = make(database)
    keeps_jobs_at(open_store(database), grove_database=name, resources={name: resource})
    close(resource)


@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
@pytest.mark.parametrize("name", ["", "jobs"])
def test_with_grove_kv_on_redis_and_valkey(keyspace: str, make: Callable[[str], Any], name: str) -> None:
    resource = make(keyspace)
    keeps_jobs_at(open_store(keyspace), grove_kv=name, resources={name: resource})
    close(resource)


def test_the_database_comes_before_the_key_value_store(database: str, keyspace: str) -> None:
    resources = {"db": database, "kv": keyspace}
    keeps_jobs_at(open_store(database), grove_database="", grove_kv="", resources=resources)
    keeps_jobs_at(open_store(keyspace), grove_kv="", resources=resources)


def test_a_database_is_no_key_value_store(database: str, keyspace: str) -> None:
    with pytest.raises(ConfigError, match="grove_kv: the resource 'jobs' is a postgresql DSN, not a key-value"):
        DispatchExtension(grove_kv="jobs", resources={"jobs": database})
    with pytest.raises(ConfigError, match="grove_database: the resource 'jobs' is a unix DSN, not a database"):
        DispatchExtension(grove_database="jobs", resources={"jobs": keyspace})


@pytest.mark.parametrize("kind", ["postgres", "redis", "valkey"])
def test_a_location_is_taken_from_the_file_the_environment_and_the_command_line(
    kind: str, new_place: NewPlace, folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = new_place(kind).location
    again = open_store(location)
    (folder / "app.yaml").write_text(f"dispatch: {json.dumps({'store': location})}")
    keeps_jobs_at(again)
    told = cli("enqueue", "render", "path=b.pdf", "--store", location)
    assert (told.returncode, told.stderr) == (0, "")
    listed = cli("jobs", "--json", env={"MPDISPATCH_STORE": location})
    assert [job["name"] for job in json.loads(listed.stdout)] == ["render", "render"]
    (folder / "app.yaml").unlink()
    monkeypatch.setenv("MPDISPATCH_STORE", location)
    keeps_jobs_at(again)


def test_the_command_line_names_the_extra_that_is_missing(cli: Cli, folder: Path) -> None:
    for location, extra in (("postgresql://me:secret@host/db", "postgres"), ("redis://:secret@host", "redis")):
        without = "import sys; sys.modules.update(psycopg=None, redis=None, valkey=None)\n"
        (folder / "sitecustomize.py").write_text(without)
        told = cli("jobs", "--store", location, env={"PYTHONPATH": f"{folder}:{Path(__file__).parents[2]}"})
        assert told.returncode == 2
        assert f"pip install 'mpdispatch[{extra}]'" in told.stderr
        assert "secret" not in told.stderr

"""A store on an app's resource connects as the resource does, and takes no connection away from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import psycopg_pool
import pytest
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict

from mpdispatch.errors import UsageError
from mpdispatch.store.postgres import PostgresStore
from mpdispatch.store.postgres.sources import source_of
from tests.extension.stand_ins import stand_in
from tests.servers.fixtures import AnyServer


@pytest.fixture
def dsn(postgres_server: AnyServer) -> str:
    return postgres_server.dsn


@pytest.fixture
def url(dsn: str) -> str:
    return dsn.replace("postgresql://", "postgresql+psycopg://")


def name_of(resource: Any) -> str:
    """What the store's connections to this resource call themselves."""
    with closing(source_of(resource)[1]()) as connection:
        assert connection.autocommit
        found = connection.execute("SHOW application_name").fetchone()
    assert found is not None
    return str(found[0])


@pytest.fixture
def engines() -> Iterator[list[sqlalchemy.Engine]]:
    made: list[sqlalchemy.Engine] = []
    yield made
    for each in made:
        each.dispose()


# ---------------------------------------------------------------- SQLAlchemy


def test_an_engine_is_followed_with_its_connect_args(url: str, engines: list[sqlalchemy.Engine]) -> None:
    engine = sqlalchemy.create_engine(url, connect_args={"application_name": "shop", "prepare_threshold": 2})
    engines.append(engine)
    assert name_of(engine) == "shop"
    assert engine.pool.status().startswith("Pool size: 5  Connections in pool: 0"), "none is the app's"


def test_what_listeners_add_counts_at_each_connection(url: str, engines: list[sqlalchemy.Engine]) -> None:
    engine = sqlalchemy.create_engine(url)
    engines.append(engine)
    tokens = iter(["first", "second", "third"])

    @sqlalchemy.event.listens_for(engine, "do_connect")
    def add_token(dialect: Any, record: Any, arguments: Any, parameters: dict[str, Any]) -> None:
        parameters["application_name"] = next(tokens)

    assert name_of(engine) == "first"
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW application_name").scalar() == "second", (
            "the app's own still work"
        )
    assert name_of(engine) == "third"


def test_a_creator_makes_the_stores_connections_as_well(dsn: str, engines: list[sqlalchemy.Engine]) -> None:
    def make() -> Any:
        return psycopg.connect(dsn, application_name="made", autocommit=True)

    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=make)
    engines.append(engine)
    assert name_of(engine) == "made"
    assert name_of(engine) == "made"


def test_an_engine_of_another_driver_is_followed_by_its_url() -> None:
    class Dialect:
        name = "postgresql"
        dispatch = None

        def create_connect_args(self, url: str) -> tuple[list[str], dict[str, Any]]:
            return [], {"host": "db", "user": "ann", "database": "shop", "password": "a/b@c", "timeout": 3}

    engine = stand_in("sqlalchemy.engine.base", "Engine", dialect=Dialect(), url="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sqlalchemy.event.contains", lambda *_: True)
        place, _ = source_of(engine)
    assert conninfo_to_dict(place.dsn) == {"host": "db", "user": "ann", "dbname": "shop", "password": "a/b@c"}
    assert "a/b@c" not in place.display
    assert "a%2Fb" not in place.display


def test_encryption_that_psycopg_cannot_repeat_is_refused() -> None:
    class Dialect:
        name = "postgresql"

        def create_connect_args(self, url: str) -> tuple[list[str], dict[str, Any]]:
            return [], {"host": "db", "ssl": object()}

    with pytest.raises(
        UsageError, match=r"its parameter ssl= is not one of psycopg's; give a DSN with sslmode"
    ):
        source_of(stand_in("sqlalchemy.engine.base", "Engine", dialect=Dialect(), url=""))


# ---------------------------------------------------------------- psycopg


def test_options_of_the_store_go_with_a_resource(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        store = PostgresStore.of(connection, "process", schema="jobs", pool_size=3)
        with pytest.raises(UsageError, match="pool_size must be 1 to"):
            PostgresStore.of(connection, pool_size=0)
    assert store.location.endswith("schema=jobs&durability=process&pool_size=3")
    assert store.said_durability == "process"


def test_a_connection_is_followed_also_when_it_is_closed(dsn: str) -> None:
    with psycopg.connect(dsn, application_name="shop") as connection:
        place, connect = source_of(connection)
        store = PostgresStore.of(connection)
    with closing(connect()) as again:
        assert again.info.dbname == conninfo_to_dict(dsn)["dbname"]
        assert again.info.parameter_status("application_name") == "shop"
    assert PostgresStore(store.location).location == store.location == place.location


def test_a_pool_is_followed_with_its_arguments_and_none_is_taken(dsn: str) -> None:
    with psycopg_pool.ConnectionPool(
        dsn, min_size=1, max_size=1, kwargs={"application_name": "pooled", "row_factory": None}, open=True
    ) as pool:
        with pool.connection():
            assert name_of(pool) == "pooled"
        store = PostgresStore.of(pool)
    assert "application_name=pooled" in store.location


def test_a_pool_whose_parameters_are_made_anew(dsn: str) -> None:
    names = iter(["at first", "one", "two"])
    pool = psycopg_pool.ConnectionPool(
        lambda: dsn, kwargs=lambda: {"application_name": next(names)}, open=False
    )
    _, connect = source_of(pool)
    for name in ("one", "two"):
        with closing(connect()) as connection:
            assert connection.info.parameter_status("application_name") == name


def test_parameters_that_are_awaited_are_refused(dsn: str) -> None:
    async def conninfo() -> str:
        return dsn

    pool = psycopg_pool.AsyncConnectionPool(conninfo, open=False)
    with pytest.raises(UsageError, match="are made by a coroutine"):
        source_of(pool)


@pytest.mark.parametrize("kind", ["asyncpg.pool.Pool", "asyncpg.connection.Connection", "psycopg.Cursor"])
def test_what_hides_its_parameters_is_refused(kind: str) -> None:
    module, _, name = kind.rpartition(".")
    with pytest.raises(UsageError, match=rf"the parameters of a {kind} cannot be known; give its DSN"):
        source_of(stand_in(module, name))

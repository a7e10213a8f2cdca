"""An application's pool, engine, connection or DSN opens the store in its database."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from mpdispatch.errors import UsageError
from mpdispatch.model import NewJob
from mpdispatch.store import open_store
from mpdispatch.store.postgres import PostgresStore
from mpdispatch.store.postgres.options import Place


def engine_of(dsn: str, **options: Any) -> sqlalchemy.Engine:
    given = conninfo_to_dict(dsn)
    user, dbname = given.pop("user"), given.pop("dbname")
    url = sqlalchemy.URL.create("postgresql+psycopg", username=user, database=dbname, query=given)
    return sqlalchemy.create_engine(url, **options)


SOURCES: dict[str, Callable[[str], Any]] = {
    "url": lambda dsn: dsn,
    "parameters": lambda dsn: " ".join(f"{k}='{v}'" for k, v in conninfo_to_dict(dsn).items()),
    "connection": psycopg.connect,
    "pool": lambda dsn: ConnectionPool(dsn, open=False, kwargs={"row_factory": dict_row}),
    "pool of functions": lambda dsn: ConnectionPool(lambda: "", open=False, kwargs=conninfo_to_dict(dsn)),
    "engine": engine_of,
    "engine without a pool": lambda dsn: engine_of(dsn, poolclass=sqlalchemy.NullPool),
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_resource_opens_its_store(source: str, place: Place) -> None:
    thing = SOURCES[source](place.dsn)
    store = PostgresStore(thing, schema=place.options.schema)
    try:
        job = store.enqueue(NewJob(name="noop", payload=b"{}"))
        with closing(open_store(store.location)) as again:
            assert again.get(job.id).name == "noop"
    finally:
        store.close_all()
        for end in ("dispose", "close"):
            if hasattr(thing, end):
                getattr(thing, end)()
                break


def test_an_engine_makes_our_connections_as_it_makes_its_own(place: Place) -> None:
    engine = engine_of(place.dsn, pool_size=1, max_overflow=0)
    made = list[str]()

    @sqlalchemy.event.listens_for(engine, "do_connect")
    def connects(dialect: Any, record: Any, args: Any, kwargs: dict[str, Any]) -> None:
        kwargs["application_name"] = "theirs"
        made.append("connection")

    store = PostgresStore(engine, schema=place.options.schema)
    store.migrate()
    assert made
    with engine.connect() as connection:  # the only one of its pool is free
        assert connection.execute(sqlalchemy.text("SELECT 1")).scalar() == 1
    store.close_all()
    engine.dispose()


def test_what_says_no_place_is_refused() -> None:
    with pytest.raises(UsageError, match="give its URL"):
        PostgresStore(object())
    with pytest.raises(UsageError) as caught:
        PostgresStore("host=db pasword=s3cret")
    assert "s3cret" not in str(caught.value)

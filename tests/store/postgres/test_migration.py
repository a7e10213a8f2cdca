"""The tables are made once, whoever comes first, by a user with few rights, and never by an older mpdispatch."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from mpdispatch.errors import StoreCannotCreate, StoreError, StorePermission, StoreTooNew, StoreTooOld
from mpdispatch.store.postgres import migration
from mpdispatch.store.postgres.options import Place, ServerOptions
from mpdispatch.store.postgres.server import Database
from mpdispatch.store.postgres.sessions import ClientSessions

VERSION = migration.VERSION


def set_version(place: Place, version: int) -> None:
    schema = place.options.quoted_schema
    with psycopg.connect(place.dsn, autocommit=True) as connection:
        connection.execute(
            f"UPDATE {schema}.mpdispatch_meta SET value = %s WHERE key = 'schema_version'", [str(version)]
        )


def test_many_at_once_make_one_schema(place: Place) -> None:
    found = list[tuple[int, int]]()

    def migrate() -> None:
        found.append(Database(place, str).migrate(patience_s=30))

    threads = [threading.Thread(target=migrate) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(found) == [(0, VERSION)] + [(VERSION, VERSION)] * 7


def test_a_newer_schema_is_refused_and_left_as_it_is(database: Database, place: Place) -> None:
    database.migrate(patience_s=30)
    set_version(place, VERSION + 1)
    for act in (
        lambda: database.migrate(patience_s=30),
        lambda: database.open(patience_s=5, create=True),
        lambda: ClientSessions(database).read(lambda c: None),
    ):
        with pytest.raises(StoreTooNew) as caught:
            act()
        assert caught.value.exit_code == 78
        assert (caught.value.found, caught.value.supported) == (VERSION + 1, VERSION)


def test_an_older_schema_is_refused_by_who_only_looks(database: Database, place: Place) -> None:
    database.migrate(patience_s=30)
    set_version(place, VERSION - 1)
    with pytest.raises(StoreTooOld, match="mpdispatch migrate"):
        database.open(patience_s=5, create=False)


def test_the_script_makes_what_a_migration_makes(place: Place, database: Database) -> None:
    """People who may not let an application make tables run it by hand."""
    script = migration.script(place.options)
    with psycopg.connect(place.dsn, autocommit=True) as connection:
        connection.execute(script)  # type: ignore[call-overload]
    assert database.migrate(patience_s=30) == (VERSION, VERSION)
    assert migration.script(place.options, VERSION) == ""


@pytest.fixture
def plain_user(place: Place) -> Iterator[str]:
    """A role that may log in, and nothing else."""
    name = f"user_{place.options.schema}"
    with psycopg.connect(place.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN")  # type: ignore[call-overload]
        yield name
        connection.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")  # type: ignore[call-overload]


def as_user(place: Place, user: str) -> Place:
    before, _, after = place.dsn.partition("@")
    assert before
    return Place(f"postgresql://{user}@{after}", place.options)


def test_a_user_who_owns_a_schema_needs_no_other_right(place: Place, plain_user: str) -> None:
    with psycopg.connect(place.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {place.options.quoted_schema} AUTHORIZATION {plain_user}")  # type: ignore[call-overload]
    theirs = Database(as_user(place, plain_user), str)
    assert theirs.migrate(patience_s=30) == (0, VERSION)
    sessions = ClientSessions(theirs)
    sessions.write(lambda c: None, "test")
    sessions.sync()
    sessions.close_all()


def test_a_user_who_may_make_no_schema_is_told(place: Place, plain_user: str) -> None:
    with pytest.raises(StorePermission) as caught:
        Database(as_user(place, plain_user), str).migrate(patience_s=30)
    assert caught.value.exit_code == 77


def test_a_database_that_is_not_there_is_named(place: Place) -> None:
    with pytest.raises(StoreCannotCreate, match="createdb") as caught:
        Database(Place(place.dsn.replace("/mpdispatch?", "/nowhere?"), place.options), str).migrate(
            patience_s=30
        )
    assert caught.value.exit_code == 73


def test_an_old_server_is_refused_by_its_version() -> None:
    server = migration.Server(130_012, False, "on", "UTF8", 0, 0)
    with pytest.raises(StoreError, match=r"PostgreSQL 13\.12; mpdispatch needs 14"):
        migration.refuse_server(server, "postgresql://db/jobs")


@pytest.mark.parametrize("schema", ['quo"ted', "it's", "b\\s", "Grün Kohl", "$do$"])
def test_a_schema_of_any_name_is_made(place: Place, schema: str) -> None:
    odd = Place(place.dsn, ServerOptions(schema=schema))
    try:
        assert Database(odd, str).migrate(patience_s=30) == (0, VERSION)
        assert Database(odd, str).migrate(patience_s=30) == (VERSION, VERSION)
    finally:
        with psycopg.connect(place.dsn, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {odd.options.quoted_schema} CASCADE")  # type: ignore[call-overload]

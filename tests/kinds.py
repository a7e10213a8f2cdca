"""The kinds of stores that the tests of all stores run on: the fixture `store_kind`, once for each kind.

`MPDISPATCH_TEST_KINDS="postgres redis"` chooses the kinds. A test that holds for some kinds only says which:
`@pytest.mark.kinds("file", "memory")`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import pytest

from mpdispatch import sqlite3
from mpdispatch.clock import Clock
from mpdispatch.store import SQLiteStore
from mpdispatch.store.contract import Store
from tests.servers.fixtures import Place, Schemas, empty

__all__ = ["Ids", "StoreKind", "kinds_of_test", "sqlite_only", "store_kind"]

ALL = ("file", "memory", "postgres", "redis", "valkey")
"""What is tested without MPDISPATCH_TEST_KINDS."""

sqlite_only = pytest.mark.kinds("file", "memory")
"""A test that looks past the store's face, by SQL or at a limit within its modules."""


class Ids(Protocol):
    """The next ids of a store."""

    def keep(self) -> None:
        """What was used up until now is used."""
        ...

    def give_back(self) -> None:
        """What was used up since `keep` was called comes next."""
        ...

    def close(self) -> None: ...


class StoreKind(Protocol):
    """Makes stores of one kind, each in an empty place of its own."""

    name: str

    def make(self, clock: Clock | None = None) -> Store:
        """A new store, empty and ready. Its writes need not outlast a power cut."""
        ...

    def again(self, store: Store, clock: Clock | None = None) -> Store:
        """Another object for the same store, as another process has it; where there can be none, the store itself."""
        ...

    def ids(self, store: Store) -> Ids | None:
        """If calls that are refused use ids up: what gives those back, so that a model can say the next ones."""
        ...

    def app_connection(self, store: Store) -> Any:
        """A connection of an application that this store enqueues on, in autocommit; None: it has no such thing."""
        ...

    def discard(self, store: Store) -> None:
        """Close it and remove all it kept. What a test leaves is removed after it."""
        ...


class _WithoutGaps:
    def ids(self, store: Store) -> Ids | None:
        return None


class FileKind(_WithoutGaps):
    """SQLite in a file: each is a copy of an empty one, which is faster than to make its schema anew."""

    name = "file"

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, count()
        self._empty: Path | None = None

    def make(self, clock: Clock | None = None) -> Store:
        if self._empty is None:
            self._folder.mkdir(exist_ok=True)
            self._empty = self._folder / "empty.db"
            SQLiteStore(self._empty).migrate()
        path = self._folder / f"{next(self._numbers)}.db"
        shutil.copy(self._empty, path)
        return SQLiteStore(path, durability="process", clock=clock)

    def again(self, store: Store, clock: Clock | None = None) -> Store:
        return SQLiteStore(_path(store), durability="process", clock=clock)

    def app_connection(self, store: Store) -> Any:
        return sqlite3.module.connect(_path(store), isolation_level=None)

    def discard(self, store: Store) -> None:
        store.close_all()
        path = _path(store)
        shutil.rmtree(f"{path}-mpd", ignore_errors=True)
        for each in (path, f"{path}-wal", f"{path}-shm"):
            Path(each).unlink(missing_ok=True)


def _path(store: Store) -> Path:
    assert store.file is not None
    return store.file


class MemoryKind(_WithoutGaps):
    name = "memory"

    def make(self, clock: Clock | None = None) -> Store:
        store = SQLiteStore(":memory:", clock=clock)
        store.check(create=True)
        return store

    def again(self, store: Store, clock: Clock | None = None) -> Store:
        return store

    def app_connection(self, store: Store) -> Any:
        return None

    def discard(self, store: Store) -> None:
        store.close_all()


class _ServerKind(_WithoutGaps):
    """A store on the server that all tests of this worker share."""

    name: str

    def __init__(self, new_place: Callable[[str], Place]) -> None:
        self._new_place = new_place
        self._places: dict[str, Place] = {}

    def open(self, location: str, clock: Clock | None) -> Store:
        raise NotImplementedError

    def make(self, clock: Clock | None = None) -> Store:
        return self._make(self._new_place(self.name), clock)

    def _make(self, place: Place, clock: Clock | None) -> Store:
        store = self.open(place.location, clock)
        self._places[store.location] = place
        store.check(create=True)
        return store

    def again(self, store: Store, clock: Clock | None = None) -> Store:
        return self.open(self._places[store.location].location, clock)

    def app_connection(self, store: Store) -> Any:
        return None

    def discard(self, store: Store) -> None:
        store.close_all()
        empty(self._places[store.location])


class PostgresKind(_ServerKind):
    name = "postgres"

    def __init__(self, new_place: Callable[[str], Place], schemas: Schemas) -> None:
        super().__init__(new_place)
        self._schemas = schemas

    def make(self, clock: Clock | None = None) -> Store:
        place = self._schemas.take()
        store = self._make(place, clock)
        self._schemas.note(place)
        return store

    def discard(self, store: Store) -> None:
        store.close_all()
        self._schemas.give_back(self._places[store.location])

    def open(self, location: str, clock: Clock | None) -> Store:
        from mpdispatch.store.postgres import PostgresStore

        return PostgresStore(location, clock=clock)

    def app_connection(self, store: Store) -> Any:
        import psycopg

        return psycopg.connect(self._places[store.location].dsn, autocommit=True)

    def ids(self, store: Store) -> Ids | None:
        place = self._places[store.location]
        return _Sequences(place.dsn, place.name)


class _Sequences:
    """A transaction that is rolled back does not give the numbers back that it took of a sequence."""

    def __init__(self, dsn: str, schema: str) -> None:
        import psycopg

        self._connection = psycopg.connect(dsn, autocommit=True)
        names = self._connection.execute(
            "SELECT sequencename FROM pg_sequences WHERE schemaname = %s ORDER BY 1", (schema,)
        )
        self._names = [f'"{schema}".{name}' for (name,) in names]
        self._look = " UNION ALL ".join(f"SELECT last_value, is_called FROM {name}" for name in self._names)
        self._kept = self._values()

    def _values(self) -> list[tuple[int, bool]]:
        return self._connection.execute(self._look).fetchall()

    def keep(self) -> None:
        self._kept = self._values()

    def give_back(self) -> None:
        for name, before, now in zip(self._names, self._kept, self._values(), strict=True):
            if before != now:
                self._connection.execute("SELECT setval(%s, %s, %s)", (name, *before))

    def close(self) -> None:
        self._connection.close()


class RedisKind(_ServerKind):
    name = "redis"

    def open(self, location: str, clock: Clock | None) -> Store:
        from mpdispatch.store.redis import RedisStore

        return RedisStore(location, clock=clock)


class ValkeyKind(RedisKind):
    name = "valkey"


def chosen_kinds() -> list[str]:
    return os.environ.get("MPDISPATCH_TEST_KINDS", "").replace(",", " ").split() or list(ALL)


def kinds_of_test(metafunc: pytest.Metafunc) -> None:
    """Run a test of `store_kind` once for each kind that it is for; called by `pytest_generate_tests`."""
    if "store_kind" not in metafunc.fixturenames:
        return
    chosen = chosen_kinds()
    if unknown := set(chosen) - set(ALL):
        raise pytest.UsageError(
            f"MPDISPATCH_TEST_KINDS: no kind of store is called {', '.join(sorted(unknown))}"
        )
    mark = metafunc.definition.get_closest_marker("kinds")
    wanted = ALL if mark is None else mark.args
    metafunc.parametrize("store_kind", [each for each in chosen if each in wanted], indirect=True)


@pytest.fixture
def store_kind(request: pytest.FixtureRequest, tmp_path: Path) -> StoreKind:
    """The kind of store that this run of the test is about."""
    return kind_named(request.param, request, tmp_path / "stores")


def kind_named(name: str, request: pytest.FixtureRequest, folder: Path) -> StoreKind:
    """The kind of this name; `folder` is for its files."""
    match name:
        case "file":
            return FileKind(folder)
        case "memory":
            return MemoryKind()
        case "postgres":
            return PostgresKind(
                request.getfixturevalue("new_place"), request.getfixturevalue("postgres_schemas")
            )
    made: StoreKind = {"redis": RedisKind, "valkey": ValkeyKind}[name](request.getfixturevalue("new_place"))
    return made
